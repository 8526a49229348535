"""Commands behind a proxy that spoils their requests: each ends right, or with one message and a way to go on."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from faulty import plans
from faulty.commands import SCENARIOS, Player, Verdict
from faulty.plans import Plan, at, outage, storm
from faulty.stage import stage

FOR_EVER = 10**6
CREATE = "SageMaker.CreateTrainingJob"
DESCRIBE = "SageMaker.DescribeTrainingJob"


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    with stage(tmp_path_factory.mktemp("stage")) as made:
        yield Player(made, tmp_path_factory.mktemp("player"))


def played(player: Player, name: str, plan: Plan) -> Verdict:
    """What became of a scenario in which nothing is wrong."""
    verdict = player.play(SCENARIOS[name], plan)
    assert verdict.wrong == []
    return verdict


@pytest.mark.parametrize("kind", [plans.DROP_AFTER, plans.ERROR_AFTER, plans.TRUNCATE])
def test_a_job_whose_answer_was_lost_is_started_once_and_followed(
    player: Player, kind: str
) -> None:
    verdict = played(player, "train, not followed", at(CREATE, 1, kind))
    assert verdict.injected == {(CREATE, kind): 1}
    assert verdict.code == 0


def test_a_job_that_may_have_been_started_is_named_with_what_finds_it(player: Player) -> None:
    """The request is done, no answer comes, and then the line is dead."""
    verdict = played(player, "train, not followed", _from(CREATE, plans.DROP_AFTER))
    assert verdict.code == 2
    assert "may run all the same, and be paid: the same command finds it" in verdict.message


def test_a_job_that_cannot_be_followed_any_more_goes_on_and_is_named(player: Player) -> None:
    verdict = played(player, "train", at("Logs.DescribeLogStreams", 1, plans.DROP_BEFORE, FOR_EVER))
    assert verdict.code == 2
    assert "goes on, and is paid. Repeat the same command to follow it again" in verdict.message


def test_half_an_answer_is_asked_for_again(player: Player) -> None:
    """botocore takes it for a whole one."""
    assert played(player, "status", at(DESCRIBE, 1, plans.TRUNCATE, 2)).code == 0


def test_the_sign_in_page_of_a_network_is_no_answer(player: Player) -> None:
    verdict = played(player, "status", outage(1, FOR_EVER, plans.PAGE))
    assert "a web page came in place of AWS's answer" in verdict.message


def test_a_page_in_place_of_a_file_leaves_no_connection_open(player: Player) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        verdict = played(player, "fetch", at("S3.GetObject", 1, plans.PAGE, 2))
        gc.collect()
    assert verdict.injected == {("S3.GetObject", plans.PAGE): 2}
    assert [str(each.message) for each in told] == []


def test_a_wrong_clock_is_told_with_how_far_it_is_off(player: Player) -> None:
    verdict = played(player, "status", at(DESCRIBE, 1, plans.SKEW))
    assert "This machine's clock is 55 minutes behind AWS's. Set it" in verdict.message


def test_a_download_that_keeps_breaking_is_one_message(player: Player) -> None:
    verdict = played(player, "fetch", at("S3.GetObject", 1, plans.TRUNCATE, FOR_EVER))
    assert verdict.code == 2
    assert "Repeat the same command" in verdict.message


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_storms(player: Player, name: str) -> None:
    injected = sum(
        sum(played(player, name, storm(seed, 0.3)).injected.values()) for seed in range(3)
    )
    assert injected


@pytest.mark.slow
@pytest.mark.parametrize("kind", [plans.DROP_AFTER, plans.TRUNCATE, plans.ERROR_AFTER])
def test_an_endpoint_whose_answers_were_lost_is_there_once(player: Player, kind: str) -> None:
    for operation in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        assert played(player, "deploy", at(f"SageMaker.{operation}", 1, kind)).code == 0


@pytest.mark.slow
def test_an_endpoint_that_may_be_there_is_named_and_its_parts_stay(player: Player) -> None:
    player.undisturbed(SCENARIOS["deploy"])
    verdict = played(player, "deploy", _from("SageMaker.CreateEndpoint", plans.DROP_AFTER))
    assert "flowers may be there all the same, and be paid" in verdict.message


@pytest.mark.slow
def test_a_cleanup_that_broke_off_is_finished_by_the_next(player: Player) -> None:
    """The configuration knows the model; were it the first to go, nobody would find the model."""
    for operation in ("DeleteModel", "DeleteEndpointConfig", "DeleteEndpoint"):
        lost = at(f"SageMaker.{operation}", 1, plans.DROP_AFTER, FOR_EVER)
        assert played(player, "cleanup endpoint", lost).code == 2


def _from(operation: str, kind: str) -> Plan:
    """An outage that begins with an operation."""
    begun = False

    def plan(asked: str, nth: int, total: int) -> str | None:
        nonlocal begun
        begun = begun or asked == operation
        return kind if begun else None

    return plan
