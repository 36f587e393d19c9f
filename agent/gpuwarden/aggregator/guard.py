"""Every call over mutual TLS passes here: who calls, and whether the table lets them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Identity, Role

IdentityOf = Callable[[Any], Identity]
"""Who a call's certificate is for; ``Refused`` when it names nobody."""
May = Callable[[str, Identity | None], bool]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Denies what is not allowed, before the method sees anything of it."""

    def __init__(
        self,
        identity_of: IdentityOf,
        may: May,
        denied: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        """``denied``: why a node is kept out; ``None``: it is not."""
        self._identity_of = identity_of
        self._may = may
        self._denied = denied
        self.denied = 0

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if not handler.response_streaming:
            return self._guarded_call(handler, method)
        return self._guarded_stream(handler, method)

    async def _check(self, context: Any, method: str) -> None:
        try:
            who: Identity | None = self._identity_of(context)
            why = f"{who.role if who else ''} may not call {method}"
        except Refused as refused:
            who, why = None, str(refused)
        kept_out = self._denied(who.name) if who is not None and who.role is Role.NODE else None
        if kept_out is not None and who is not None:
            why = f"node {who.name} is denied: {kept_out}"
        elif self._may(method, who):
            return
        self.denied += 1
        get_log().warning("call_denied", method=method, who=who.name if who else "nobody", why=why)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)

    def _guarded_call(self, handler: Any, method: str) -> Any:
        """Methods with one answer."""
        is_stream = handler.request_streaming
        inner = handler.stream_unary if is_stream else handler.unary_unary

        async def guarded(request: Any, context: Any) -> Any:
            await self._check(context, method)
            return await inner(request, context)

        make = (
            grpc.stream_unary_rpc_method_handler
            if is_stream
            else grpc.unary_unary_rpc_method_handler
        )
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _guarded_stream(self, handler: Any, method: str) -> Any:
        """Methods with many answers: some yield them, some write them to the context."""
        is_stream = handler.request_streaming
        inner = handler.stream_stream if is_stream else handler.unary_stream

        async def yielding(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._check(context, method)
            async for answer in inner(request, context):
                yield answer

        async def writing(request: Any, context: Any) -> None:
            await self._check(context, method)
            await inner(request, context)

        make = (
            grpc.stream_stream_rpc_method_handler
            if is_stream
            else grpc.unary_stream_rpc_method_handler
        )
        guarded: Any = yielding if inspect.isasyncgenfunction(inner) else writing
        return make(guarded, handler.request_deserializer, handler.response_serializer)


def may_of(table: Mapping[str, frozenset[Role]]) -> May:
    """The question for one table; what is not in it is denied."""

    def may(method: str, who: Identity | None) -> bool:
        return who is not None and who.role in table.get(method, frozenset())

    return may
