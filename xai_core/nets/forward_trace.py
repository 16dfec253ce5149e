"""One forward pass of a net: its operations below all spellings, and whose output is what.

The pass runs as the net's user would run it, with gradients on, on one small image of noise; the
net, the global random generators and the grad mode are afterwards as they were.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from xai_core.errors import BadInput, first_line
from xai_core.nets.positions import MAP, PRODUCTS, Value, axes_of


@dataclass
class Trace:
    """What a forward pass did.

    Attributes:
        logits: the net's output; None where it does not depend on the image.
        outputs: their number.
        runs: how often each module ran, by name.
    """

    logits: Value | None
    outputs: int
    runs: Counter[str]


def trace_forward(module: nn.Module, size: int) -> Trace:
    """Run a net in evaluation mode on one image of N x N pixels.

    Raises:
        BadInput: the forward pass fails at this size, or gives no tensor.
    """
    parameter = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    devices = [parameter.device] if parameter.is_cuda else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
        noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        image = noise.to(parameter.device, parameter.dtype).requires_grad_().clone()
        operations = _Operations(image)
        with _left_as_it_was(module), _watched(module, operations) as runs:
            try:
                with operations:
                    logits = module(image)
            except Exception as error:  # a user's net may raise anything
                raise BadInput(
                    f"its forward pass failed at {size}x{size}: {first_line(error)}"
                ) from error
    if not isinstance(logits, Tensor):
        raise BadInput(f"its forward pass gives a {type(logits).__name__}, not logits")
    return Trace(operations.values.get(id(logits)), logits.shape[-1] if logits.ndim else 0, runs)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation on what depends on the image.

    Attributes:
        values: what each tensor holds now, by the tensor's id.
        count: of values so far.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: dict[int, Value] = {}
        self.count = 0
        self._tensors: dict[int, Tensor] = {}  # held, so that no id is used twice
        self._sharing: dict[int, dict[int, None]] = {}
        self.born: dict[Value, int] = {}
        self._set(image, Value("image", tuple(image.shape), MAP))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        names, defaults, written = _schema(func)
        arguments = {**defaults, **dict(zip(names, args, strict=False)), **(kwargs or {})}
        inputs = dict(self._inputs(arguments))
        result = func(*args, **(kwargs or {}))
        if not inputs:
            return result
        op = func.overloadpacket.__name__.rstrip("_")
        weight = _weight(op, arguments, inputs)
        for output in result if isinstance(result, tuple | list) else [result]:
            if isinstance(output, Tensor):
                axes = axes_of(op, arguments, inputs, tuple(output.shape))
                self._set(output, Value(op, tuple(output.shape), axes, inputs, weight))
        for name in written:
            tensor = arguments[name]
            if isinstance(tensor, Tensor):
                self._write(tensor, op, arguments, inputs)
        return result

    def _inputs(self, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
        for name, argument in arguments.items():
            several = isinstance(argument, tuple | list)
            for i, item in enumerate(argument if several else [argument]):
                if isinstance(item, Tensor) and id(item) in self.values:
                    yield f"{name}{i}" if several else name, self.values[id(item)]

    def _set(self, tensor: Tensor, value: Value) -> None:
        self.values[id(tensor)] = value
        self._tensors[id(tensor)] = tensor
        self.born[value] = self.count
        self.count += 1
        if (storage := _storage(tensor)) is not None:
            self._sharing.setdefault(storage, {})[id(tensor)] = None

    def _write(
        self, tensor: Tensor, op: str, arguments: Mapping[str, Any], inputs: dict[str, Value]
    ) -> None:
        """All that share the tensor's memory hold something new, too."""
        storage = _storage(tensor)
        if id(tensor) not in self.values:
            axes = axes_of(op, arguments, inputs, tuple(tensor.shape))
            self._set(tensor, Value(op, tuple(tensor.shape), axes, inputs))
        written = self.values[id(tensor)]
        base = tensor._base
        others = {key: self._tensors[key] for key in self._sharing.get(storage or 0, ())}
        if base is not None:
            others[id(base)] = base
        for key, other in others.items():
            before = self.values.get(key)
            if before is not written:
                reads = {"written": written} | ({"self": before} if before else {})
                shape = tuple(other.shape)
                axes = (before and before.axes) or axes_of("written", {}, reads, shape)
                self._set(other, Value("written", shape, axes, reads))


def _storage(tensor: Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have none
        return None


@cache
def _schema(func: Any) -> tuple[list[str], dict[str, Any], list[str]]:
    """The arguments' names, the default values, and the names of those that are written."""
    arguments = func._schema.arguments
    return (
        [a.name for a in arguments],
        {a.name: a.default_value for a in arguments if a.has_default_value()},
        [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write],
    )


def _weight(op: str, arguments: Mapping[str, Any], inputs: Mapping[str, Value]) -> tuple[int, ...]:
    factors = ("weight",) if op == "convolution" else PRODUCTS.get(op, ())
    for name in factors:
        if name not in inputs and isinstance(arguments.get(name), Tensor):
            return tuple(arguments[name].shape)
    return ()


@contextmanager
def _watched(module: nn.Module, operations: _Operations) -> Iterator[Counter[str]]:
    """Notes whose output each value is; a module that passes its input on gives nothing."""
    runs: Counter[str] = Counter()
    started: dict[nn.Module, list[tuple[int, Value | None]]] = defaultdict(list)

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        source = operations.values.get(id(args[0])) if args else None
        started[module].append((operations.count, source))

    def after(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            start, source = started[module].pop()
            runs[name] += 1
            value = operations.values.get(id(output)) if isinstance(output, Tensor) else None
            if value is None or operations.born[value] < start:
                return
            value.modules.append(name)
            if source is not None and _pools(module, source, value):
                value.pooled_from = source

        return hook

    handles = []
    try:
        for name, child in module.named_modules():
            if name and not isinstance(child, torch.jit.ScriptModule):  # these take no hooks
                handles.append(child.register_forward_pre_hook(before))
                handles.append(child.register_forward_hook(after(name)))
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def _pools(module: nn.Module, source: Value, value: Value) -> bool:
    """Whether a module has nothing to learn from channels and gives fewer positions."""
    return (
        source.is_map
        and len(value.shape) == 4
        and source.shape[1] == value.shape[1]
        and source.shape[2] * source.shape[3] > value.shape[2] * value.shape[3]
        and all(p.ndim < 2 for p in module.parameters())
    )


@contextmanager
def _left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Evaluation mode within; modes, attributes and buffers are given back afterwards."""
    held = [(child, dict(vars(child)), _tables(child)) for child in module.modules()]
    readable = (b for b in module.buffers() if not (is_lazy(b) or b.is_meta or b.is_sparse))
    buffers = [(b, b.detach().clone()) for b in readable]
    training = [child for child in module.modules() if child.training]
    for child in training:  # `eval()` may do more than that in a user's module
        child.training = False
    try:
        yield
    finally:
        for child in training:
            child.training = True
        for child, attributes, tables in held:
            for name in vars(child).keys() - attributes.keys():
                del vars(child)[name]
            vars(child).update(attributes)
            for table, entries in tables:
                if not _same(table, entries):
                    table.clear()
                    table.update(entries)
        with torch.no_grad():
            for buffer, value in buffers:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _tables(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A module's parameters, buffers and submodules by name, with a copy of each table."""
    tables = (vars(module).get(name) for name in ("_parameters", "_buffers", "_modules"))
    return [(table, dict(table)) for table in tables if isinstance(table, dict)]


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return list(a) == list(b) and all(a[name] is b[name] for name in b)
