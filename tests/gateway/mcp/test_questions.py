"""The published clinical questions (docs/clinical-questions.md) through `/mcp`, compared with direct answers.

Asked twice: by the SDK's client, and by a PydanticAI agent whose model is a script, so that the framework's own way of
listing and calling tools is exercised without a network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.gateway.mcp.client import call, connected, endpoint
from tests.stack import PROJECT, Stack

PAGE = PROJECT / "docs" / "clinical-questions.md"
_QUESTION = re.compile(
    r"^## \d+\. (?P<title>[^\n]+)\n(?P<expected>Same|Masked|Held)[^\n]*\n```sql\n(?P<sql>.+?)\n```", re.M | re.S
)


@dataclass(frozen=True)
class Question:
    title: str
    expected: str
    sql: str


QUESTIONS = [Question(**found.groupdict()) for found in _QUESTION.finditer(Path(PAGE).read_text(encoding="utf-8"))]


def direct(stack: Stack, sql: str) -> list[tuple[Any, ...]]:
    with stack.direct() as connection:
        return connection.execute(sql).fetchall()


def comparable(rows: list[Any]) -> list[list[Any]]:
    """Numbers as numbers: JSON carries a numeric as text so that it loses no digit."""
    return [[_number(value) for value in row] for row in rows]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    try:
        return Decimal(str(value))
    except ArithmeticError:
        return str(value)


def test_twenty_questions_are_published():
    assert len(QUESTIONS) == 20
    assert {question.expected for question in QUESTIONS} == {"Same", "Masked", "Held"}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
@pytest.mark.by_turns(2)
async def test_question_is_answered_as_published(stack: Stack, question: Question):
    expected = direct(stack, question.sql)

    async with connected(stack) as client:
        answer = await call(client, "query", connection="clinic", statement=question.sql)

    if question.expected == "Held":
        assert (answer["status"], answer.get("rows", [])) == ("pending", [])
        return
    assert answer["status"] == "completed", answer
    if question.expected == "Same":
        assert comparable(answer["rows"]) == comparable(expected)
        return
    assert [(row[0], row[5]) for row in answer["rows"]] == [(row[0], row[5]) for row in expected]
    assert not {str(value) for row in expected for value in row[1:5]} & set(
        re.findall(r'"([^"]*)"', json.dumps(answer["rows"]))
    )


async def test_agent_framework_asks_the_questions_and_gets_the_same(stack: Stack):
    asked = [question for question in QUESTIONS if question.expected == "Same"]

    def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        """A model that knows its SQL: one tool call after the other, then the answers as it was given them."""
        answers = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if len(answers) < len(asked):
            arguments = {"connection": "clinic", "statement": asked[len(answers)].sql}
            return ModelResponse(parts=[ToolCallPart("query", arguments)])
        assert {"query", "explain", "describe_table"} <= {tool.name for tool in info.function_tools}
        return ModelResponse(parts=[TextPart(json.dumps([answer.content for answer in answers], default=str))])

    toolset = MCPToolset(endpoint(stack), headers={"Authorization": f"Bearer {stack.agent_token()}"})
    agent: Agent[None, str] = Agent(FunctionModel(script), toolsets=[toolset])

    async with agent:
        told = json.loads((await agent.run("answer the clinic's questions")).output)

    assert [comparable(answer["rows"]) for answer in told] == [
        comparable(direct(stack, question.sql)) for question in asked
    ]
