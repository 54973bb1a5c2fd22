"""Garbage on every endpoint: requests that fit the OpenAPI description and ones that do not, by schemathesis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis", reason="NO SCHEMATHESIS: endpoints were not fuzzed")


@pytest.fixture(scope="module")
def fuzzed(serve: Callable[..., AbstractContextManager[Any]], voices: Any) -> Iterator[Any]:
    # There is always room, so that 503 would be a fault.
    with serve(voices[:1], most_sessions=1_000, idle_seconds=1) as served:
        yield served


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
def test_no_request_breaks_the_server_or_its_promises(fuzzed: Any, mode: Any) -> None:
    """Every answer has a status, a kind and a form that the description tells of, and none is a server's error."""
    from schemathesis.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{fuzzed.url}/api/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 14
    for operation in operations:

        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def fits(case: Any) -> None:
            if "id" in case.path_parameters:
                # Nobody guesses a session's id.
                session = next(iter(fuzzed.sessions), None)
                case.path_parameters["id"] = fuzzed.open().rpartition("/")[2] if session is None else session.id
            # What a description cannot say, such as that bytes are no sound, may be refused; with a sentence.
            case.call_and_validate(timeout=300.0, excluded_checks=[positive_data_acceptance])

        # Where nothing is taken, nothing can be wrong.
        with contextlib.suppress(Unsatisfiable):
            fits()
    assert fuzzed.client.get("/api/health").status_code == 200
