"""`hoopweb`: sign in, run and await statements, decide on reviews, from a shell. HTTP alone; no settings, no database.

hoopweb login --client-id demo-agent --secret-file secret.txt
hoopweb query clinic "SELECT state, count(*) FROM patients GROUP BY 1"
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from hoopweb.cli import credentials, drivers, forward, records, statements
from hoopweb.cli.arguments import build_parser
from hoopweb.cli.credentials import Login
from hoopweb.cli.failures import CommandFailed, Exit
from hoopweb.cli.output import shown, write_json
from hoopweb.cli.server import Server, with_new_token


def main(arguments: Sequence[str] | None = None) -> int:
    asked = build_parser().parse_args(arguments)
    try:
        _must_be_text(asked)
        _COMMANDS[asked.command](asked)
        sys.stdout.flush()
    except CommandFailed as failed:
        _tell(failed)
        return failed.status
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough (`| head`); Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return Exit.DONE


def _must_be_text(asked: Namespace) -> None:
    """Bytes that are no UTF-8 come as lone surrogates, which no request can carry. A program gets its own ones."""
    for name, value in vars(asked).items():
        if name == "arguments":
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not is_text(text):
                raise CommandFailed("an argument is not UTF-8", status=Exit.USAGE)


def is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _tell(failed: CommandFailed) -> None:
    word = "denied" if failed.status is Exit.DENIED else "hoopweb"
    sys.stderr.write(f"{word}: {shown(str(failed))}\n")
    for name, value in failed.notes.items():
        sys.stderr.write(f"  {name}: {shown(value)}\n")


def _login(asked: Namespace) -> None:
    login = Login(server=credentials.checked_server(asked.server), client_id=asked.client_id)
    if asked.token_file:
        login = Login(server=login.server, token=_token_in(asked.token_file))
    else:
        login = _with_client_credentials(login, secret_file=asked.secret_file)
    try:
        path = credentials.save(login, profile=asked.profile, environment=os.environ)
    except OSError as error:
        raise CommandFailed(f"the login cannot be kept: {shown(error.filename)}: {error.strerror}") from None
    sys.stdout.write(f"signed in at {shown(login.server)}; the token is in {path}\n")


def _with_client_credentials(login: Login, *, secret_file: str | None) -> Login:
    if not login.client_id:
        raise CommandFailed("expected --client-id with its secret, or --token-file", status=Exit.USAGE)
    if secret_file not in {None, "", "-"}:
        # Kept by path, so that the token can be replaced when it is over.
        login = Login(server=login.server, client_id=login.client_id, secret_file=str(Path(secret_file).absolute()))
    secret = _secret_in(secret_file) if secret_file else os.environ.get("HOOPWEB_CLIENT_SECRET", "")
    if not secret:
        raise CommandFailed("expected --secret-file or HOOPWEB_CLIENT_SECRET", status=Exit.USAGE)
    return with_new_token(login, secret=secret)


def _secret_in(file: str) -> str:
    try:
        text = (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).strip()
    except (OSError, ValueError):
        raise CommandFailed(f"{shown(file)} cannot be read", status=Exit.USAGE) from None
    if not text:
        raise CommandFailed(f"there is nothing in {'stdin' if file == '-' else shown(file)}", status=Exit.USAGE)
    return text


def _token_in(file: str) -> str:
    token = _secret_in(file)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CommandFailed(f"{'stdin' if file == '-' else shown(file)} holds no token", status=Exit.USAGE)
    return token


def _logout(asked: Namespace) -> None:
    known = credentials.forget(asked.profile, os.environ)
    sys.stdout.write("signed out\n" if known else "nobody was signed in\n")


def _connections(asked: Namespace) -> None:
    records.list_connections(_server(asked), layout=asked.layout, out=sys.stdout)


def _query(asked: Namespace) -> None:
    answer = statements.query(
        _server(asked),
        connection=asked.connection,
        statement=_statement(asked),
        parameters=asked.parameter,
        wait_s=asked.wait,
        err=sys.stderr,
    )
    statements.write_answer(answer, layout=asked.layout, out=sys.stdout, err=sys.stderr)


def _result(asked: Namespace) -> None:
    answer = statements.result(_server(asked), statement_id=asked.statement_id, wait_s=asked.wait, err=sys.stderr)
    statements.write_answer(answer, layout=asked.layout, out=sys.stdout, err=sys.stderr)


def _explain(asked: Namespace) -> None:
    answer = statements.explain(_server(asked), connection=asked.connection, statement=_statement(asked))
    if asked.layout == "json":
        write_json(sys.stdout, answer)
    else:
        statements.write_explained(answer, sys.stdout)


def _connect(asked: Namespace) -> None:
    if asked.listen is not None:
        if asked.arguments:
            raise CommandFailed("--listen starts no program", status=Exit.USAGE)
        forward.forward(
            _server(asked),
            connection=asked.connection,
            host=asked.host,
            port=asked.port,
            listen=asked.listen,
            out=sys.stdout,
        )
        return
    arguments = asked.arguments[1:] if asked.arguments[:1] == ["--"] else asked.arguments
    drivers.connect(
        _server(asked),
        connection=asked.connection,
        program=asked.program,
        arguments=arguments,
        host=asked.host,
        port=asked.port,
    )


def _reviews(asked: Namespace) -> None:
    server = _server(asked)
    match asked.action:
        case "list":
            records.list_reviews(
                server,
                status=asked.status,
                connection=asked.connection,
                limit=asked.limit,
                layout=asked.layout,
                out=sys.stdout,
            )
        case "show":
            records.show_review(server, review_id=asked.review_id, layout=asked.layout, out=sys.stdout)
        case decision:
            records.decide_review(
                server,
                review_id=asked.review_id,
                decision=decision,
                reason=asked.reason,
                seen_round=asked.seen_round,
                out=sys.stdout,
            )


def _sessions(asked: Namespace) -> None:
    server = _server(asked)
    if asked.action == "kill":
        records.kill_session(server, session_id=asked.session_id, out=sys.stdout)
        return
    records.list_sessions(
        server,
        live=asked.live,
        connection=asked.connection,
        subject=asked.subject,
        limit=asked.limit,
        layout=asked.layout,
        out=sys.stdout,
    )


def _server(asked: Namespace) -> Server:
    login = credentials.load(asked.profile, os.environ)
    return Server(
        login, on_renewal=lambda renewed: credentials.save(renewed, profile=asked.profile, environment=os.environ)
    )


def _statement(asked: Namespace) -> str:
    """The text; from stdin where values in it should be in no process list and no shell's history."""
    if asked.statement != "-":
        return str(asked.statement)
    try:
        text = sys.stdin.read()
    except ValueError:
        text = ""
    if not text or not is_text(text):
        raise CommandFailed("expected a statement on stdin, in UTF-8", status=Exit.USAGE)
    return text


_COMMANDS: dict[str, Callable[[Namespace], None]] = {
    "login": _login,
    "logout": _logout,
    "connections": _connections,
    "query": _query,
    "result": _result,
    "explain": _explain,
    "connect": _connect,
    "reviews": _reviews,
    "sessions": _sessions,
}

if __name__ == "__main__":
    sys.exit(main())
