"""The reference of all settings, from the fields' own docstrings.

`python scripts/configuration_reference.py > docs/configuration.md`; a test fails while that is out
of date.
"""

# ruff: noqa: INP001 - a script, no part of a package
from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from connector.settings.model import PeerSettings, Settings

_HEAD: Final = """\
# Configuration

Made from the docstrings of `connector/settings/model.py` by
`python scripts/configuration_reference.py`: change them there.

Values come from the environment, then from the YAML file that `CONFIG_FILE` names, then from the
defaults. `<NAME>_FILE` names a file that holds the value instead, for secrets that are mounted. An
empty variable counts as unset; blanks around a value are dropped, but those of a secret. An unknown `BTP_*`,
`ILP_HTTP_*`, `TIGERBEETLE_*`, `ACCOUNTING_*`, `TELEMETRY_*`, `EXPLORER_*`, `SINK_*` or `CONNECTOR_*` variable, a near miss of any
setting (`HTTP_PROT`, `CREDITLIMIT`, `RATES_MAX_AGE`, `SEND_ROUTES` without its peer), a file without any setting, and in the
file an unknown key, a key that stands twice and a number such as `010` or `1:30` are errors, and all
errors are reported at once.
What Kubernetes sets for its Services (`CONNECTOR_SERVICE_HOST`, `CONNECTOR_PORT=tcp://...`) is ignored.
`python -m connector check-config` prints what is set, and where each value came from; with `--all` the defaults
too. It checks the certificates, keys and folders that are named, as `run` does before it opens anything.
All of it is read at the start; only peers and static routes change while a node runs, by the [admin
API](admin-api.md).

Amounts are whole numbers, in the smallest unit of the asset.
"""
_PEERS: Final = """\

## Peers

`<ID>` is the peer's id in upper case with `-` as `_`; `BTP_PEER_<ID>_ID` names ids that cannot be
written so. In YAML, each item of `peers` has these keys.
"""
_YAML: Final = """\

## As a file

```yaml
nodeId: alice
ilpAddress: g.alice
peers:
  - id: bob
    secret: long-and-random-of-bob
    url: wss://bob.example:3000
    creditLimit: 1000000
    routes: [g.bob]
routes:
  - {prefix: g.carol, nextHop: bob}
```
"""


def docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """What stands under each field of `model`."""
    tree = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            found[field.target.id] = " ".join(text.value.value.split())
    return found


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if isinstance(value, int | float | str | Path) else ""


def _rows(model: type[BaseModel], prefix: str, left_out: str) -> Iterator[str]:
    texts = docstrings(model)
    yield "| variable | key in YAML | meaning | default |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name == left_out:
            continue
        default = "required" if field.is_required() else _default(field.get_default())
        yield f"| `{prefix}{name.upper()}` | `{to_camel(name)}` | {texts[name]} | {default} |"


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join(
        [
            _HEAD,
            *_rows(Settings, "", "peers"),
            _PEERS,
            *_rows(PeerSettings, "BTP_PEER_<ID>_", "id"),
            _YAML,
        ]
    )


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - what it is for
