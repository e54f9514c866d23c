"""Hostile ends: they report answers that a right node does not give."""

from __future__ import annotations

import pytest

from connector.simulation.ends import Sent
from connector.simulation.facts import Fact, Facts
from connector.simulation.hostile import HostileEnd
from connector.simulation.network import Network
from connector.simulation.octets import RESPONSE, AnswerSeen, BtpSeen
from connector.simulation.world import World
from tests.support.worlds import small_plan


class Place:
    """A hostile end with one packet under way."""

    def __init__(self) -> None:
        world = World(1)
        self.facts = Facts()
        self.fact = self.facts.register(small_plan().payments[0], ["n1h", "n1", "n1a"])
        self.other = self.facts.register(self.fact.plan, self.fact.way, salt=b"other")
        self.end = HostileEnd(
            world=world,
            network=Network(world),
            facts=self.facts,
            name="n1h",
            node="n1",
            token="secret",
            resumable=True,
            register=lambda fact, _salt: fact,
        )
        self.sent = Sent(self.fact, b"", b"\1" * 16)
        self.end._requests[1] = self.sent

    def answered(self, request_id: int, answer: AnswerSeen) -> None:
        self.end.answered(BtpSeen(RESPONSE, request_id, {}), answer)


def fulfill(fact: Fact) -> AnswerSeen:
    return AnswerSeen(fact.preimage, "", "", "", b"")


REFUSED = AnswerSeen(b"", "F00", "g.n1", "packet id was used before", b"")


def test_a_fulfill_of_the_first_packet_for_another_one_under_its_id_is_noticed() -> None:
    place = Place()
    place.end._repeated[2] = (place.sent, place.other.condition, 1000)
    place.answered(2, fulfill(place.fact))
    assert ["for another packet" in one for one in place.facts.complaints] == [True]


@pytest.mark.parametrize("first", [1, 2])
def test_fulfills_for_two_amounts_under_one_id_are_noticed(first: int) -> None:
    place = Place()
    place.end._repeated[2] = (place.sent, place.fact.condition, 2001)
    place.answered(first, fulfill(place.fact))
    assert place.facts.complaints == []
    place.answered(3 - first, fulfill(place.fact))
    assert ["under one id" in one for one in place.facts.complaints] == [True]


def test_a_refusal_and_the_same_answer_again_are_right() -> None:
    place = Place()
    place.end._repeated |= {
        2: (place.sent, place.fact.condition, 2001),
        3: (place.sent, place.fact.condition, 1000),
    }
    place.answered(1, fulfill(place.fact))
    place.answered(2, REFUSED)
    place.answered(3, fulfill(place.fact))
    assert place.facts.complaints == []
