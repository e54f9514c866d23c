"""The page's types (`explorer-ui/src/model`) against the answers that the OpenAPI document promises."""

from __future__ import annotations

import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from connector.web import models
from tests.support.build_hook import ROOT

SOURCES = ROOT / "explorer-ui" / "src" / "model"
PAIRS: dict[str, type[BaseModel]] = {
    "Status": models.Status,
    "AccountItem": models.AccountItem,
    "PeerItem": models.PeerItem,
    "PeerTerms": models.PeerTerms,
    "RouteItem": models.RouteInUse,
    "RateItem": models.RateItem,
    "RoutingLoop": models.RoutingLoop,
    "NextHopShort": models.NextHopShort,
    "SettlementItem": models.SettlementItem,
    "Aggregate": models.Aggregate,
    "Aggregates": models.AggregateList,
    "CodeCount": models.CodeCount,
    "PeerAggregate": models.PeerAggregate,
    "PeerAggregates": models.PeerAggregateList,
    "Activity": models.Activity,
    "NetworkLink": models.NetworkLink,
    "NetworkNode": models.NetworkNode,
    "Network": models.NetworkShown,
    "HopAsset": models.HopAsset,
    "Hop": models.Hop,
    "HopsOfNode": models.HopsOfNode,
    "HopsEverywhere": models.HopsEverywhere,
    "TlsState": models.Certificate,
    "Keys": models.Keys,
    "WalletItem": models.WalletItem,
    "IncomingPayment": models.IncomingItem,
    "OutgoingPayment": models.PaymentAnswer,
    "Foretold": models.Foretold,
    "Session": models.Session,
}
SCALARS = {"string": str, "number": (int, float), "boolean": bool}


def interface(name: str) -> dict[str, tuple[bool, str]]:
    """The fields of a TypeScript interface: whether it may be absent, and its type."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(SOURCES.glob("*.ts")))
    found = re.search(
        rf"export interface {name}\b[^{{]*\{{\n(.*?)^\}}", text, re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"no interface {name}"
    fields = re.findall(r"^  readonly (\w+)(\??): ([^\n]+);", found[1], re.MULTILINE)
    return {field: (bool(mark), kind.strip()) for field, mark, kind in fields}


def kinds(annotation: Any) -> set[Any]:
    """What a field of a model may be: classes, with None where it may be null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds(get_args(annotation)[0])
    if origin is Literal:
        return {type(one) for one in get_args(annotation)}
    if origin is UnionType or str(origin) == "typing.Union":
        return set().union(*map(kinds, get_args(annotation)))
    return {origin or annotation}


@pytest.mark.parametrize("name", PAIRS)
def test_what_the_page_reads_is_what_is_promised(name: str) -> None:
    promised = {field.alias or key: field for key, field in PAIRS[name].model_fields.items()}
    fields = interface(name)
    assert fields, name
    for field, (_, kind) in fields.items():
        assert field in promised, f"{name}.{field} is not in the document"
        of_model = kinds(promised[field].annotation)
        assert (NoneType in of_model) <= ("null" in kind), f"{name}.{field} may be null"
        for word, classes in SCALARS.items():
            if kind.removesuffix(" | null") == word:
                whole = of_model - {NoneType}
                assert all(issubclass(one, classes) for one in whole), f"{name}.{field}: {whole}"
