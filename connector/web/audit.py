"""`/admin/audit`: checks of the books of the running node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import APIRouter, Depends

from connector.web import models
from connector.web.faults import known_query


class BooksAuditor(Protocol):
    """What audits; see `node.auditor`."""

    def begin(self) -> dict[str, Any]:
        """Begin an audit, unless one runs; how far it is."""

    def view(self) -> dict[str, Any]:
        """How far it is, or how the last one ended."""


def audit_router(auditor: BooksAuditor, note: Callable[[str, str], None]) -> APIRouter:
    """The routes.

    Args:
        auditor: of the node.
        note: records an action of an operator.
    """
    router = APIRouter(prefix="/admin", tags=["audit"], dependencies=[Depends(known_query)])

    @router.post(
        "/audit",
        summary="Check the books, unless that is being done; GET says how far it is",
        status_code=202,
        response_model=None,
        responses={202: {"model": models.Audit}},
    )
    async def begin() -> dict[str, Any]:
        view = auditor.begin()
        note("audit.begin", "books")
        return view

    @router.get(
        "/audit",
        summary="How far a check of the books is, or how the last one since the start ended",
        response_model=None,
        responses={200: {"model": models.Audit}},
    )
    async def shown() -> dict[str, Any]:
        return auditor.view()

    return router
