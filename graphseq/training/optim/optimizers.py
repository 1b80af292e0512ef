"""One optimizer for dense parameters and for tables of which a step touches a few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Embedding
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam

from graphseq.training.optim.weight_average import WeightAverage

OptimizerName = Literal["adam", "adamw", "adagrad", "rowwise_adagrad", "sgd"]

OPTIMIZERS: tuple[OptimizerName, ...] = ("adam", "adamw", "adagrad", "rowwise_adagrad", "sgd")
"""Names that ``fit(optimizer=...)`` takes."""

BETAS, EPSILON, ADAGRAD_EPSILON = (0.9, 0.999), 1e-8, 1e-10
"""Those of torch's Adam and Adagrad."""

MEMORY = 256
"""Steps after which Adam's momentum has faded: 0.9 ** 256 is 2e-12."""

ROWS_AT_ONCE = 2**16
"""Rows settled at once: bounds memory."""

SPARSE_FROM = 32_768
"""Rows from which on a table is worth a row-sparse gradient.

A step of a few hundred sessions reads some 5,000 rows of a table; of fewer rows than this, the
dense step, which reads them in order, costs less."""


class RowSparseOptimizer(torch.optim.Optimizer):
    r"""Adam, AdamW, Adagrad or SGD whose steps cost what they touch.

    Parameters with a dense gradient are updated as by torch's own optimizers. A table whose
    gradient is row-sparse (``Embedding(sparse=True)``) has only the rows of the gradient read and
    written, and still ends where the dense optimizer would:

    - Adagrad, row-wise Adagrad and SGD leave a row without gradient as it is, dense or sparse.
    - Dense Adam moves a row on by its fading momentum for steps after its last gradient. These
      steps have a closed form. With :math:`m, v` after step :math:`t` they add up to
      :math:`-\frac{m}{\sqrt v + \epsilon_t} \sum_{i \ge 1} a_{t+i} (\beta_1 / \sqrt{\beta_2})^i`,
      where :math:`a_s = \eta_s \sqrt{1 - \beta_2^s} / (1 - \beta_1^s)` and
      :math:`\epsilon_t = \epsilon \sqrt{1 - \beta_2^{t+1}}`. A row catches up by it before it is
      read again (:meth:`watch`), and all rows do in :meth:`settle`. Only in these steps does the
      epsilon fade as :math:`\sqrt v` does. Where gradients are near epsilon, a row moves a tenth
      too far in the first dozens of steps, and less than a percent later. This is unlike
      ``torch.optim.SparseAdam``, which forgets the steps.
    - AdamW's decay of the missed steps is caught up in the same way. The L2 penalty of ``adam``,
      which runs through the moments, applies only to the rows of a gradient.

    Row-wise Adagrad keeps one number per row, the sum of the mean squares of its gradients
    (Mudigere et al., ISCA 2022, section 2). Dense parameters with one dimension use Adagrad itself.

    Args:
        params: Parameters or groups of them.
        method: ``"adam"``, ``"adamw"``, ``"adagrad"``, ``"rowwise_adagrad"`` or ``"sgd"``.
        lr: Learning rate.
        weight_decay: L2 penalty, coupled to the gradient except for ``"adamw"``.

    Attributes:
        average: A moving average of the parameters that every step updates, or ``None``.

    Raises:
        ValueError: If the method has another name.
    """

    def __init__(
        self,
        params: Iterable[Any],
        method: OptimizerName = "adam",
        lr: float = 1e-3,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        if method not in OPTIMIZERS:
            raise ValueError(f"optimizer is one of {', '.join(OPTIMIZERS)}, got {method!r}.")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "method": method})
        self.handles: list[Any] = []
        self.average: WeightAverage | None = None

    # -- one step ------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters that have a gradient.

        Args:
            closure: Computes the loss and its gradients.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.coalesce()
        touched: dict[int, Tensor] = {}
        for group in self.param_groups:
            dense = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    self._settle_average(parameter)  # it goes on, and the clock does not
                    continue
                if parameter.grad.is_sparse:
                    touched[id(parameter)] = parameter.grad._indices()[0]
                    self._sparse_step(parameter, group)
                else:
                    self._settle_average(parameter)
                    if self._has_clock(parameter):  # rows were left behind by sparse steps
                        state = self.state[parameter]
                        self._catch_up_all(parameter)
                        self._tick(parameter, group)
                        state["last"].fill_(int(state["step"]) + 1)
                    dense.append(parameter)
            if dense:
                self._dense_step(dense, group)
        if self.average is not None:
            self._take_average(touched)
        return loss

    def _settle_average(self, parameter: Tensor) -> None:
        if self.average is not None and self.average.is_behind(parameter):
            if self._has_clock(parameter):
                self._catch_up_all(parameter)
            self.average.settle(parameter)

    def _take_average(self, touched: dict[int, Tensor]) -> None:
        assert self.average is not None
        ticked = [
            parameter
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and self._has_clock(parameter)
        ]
        self.average.update(touched, {id(p): self.state[p] for p in ticked})

    def _dense_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        method, lr, decay = group["method"], group["lr"], group["weight_decay"]
        gradients = [parameter.grad for parameter in parameters]
        if method == "sgd":
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if decay:
                    parameter.add_(parameter, alpha=-lr * decay)
                parameter.add_(gradient, alpha=-lr)  # type: ignore[arg-type]
            return
        states = [self._dense_state(parameter, group) for parameter in parameters]
        steps = [state["step"] for state in states]
        if method in ("adam", "adamw"):
            adam(
                parameters,
                gradients,  # type: ignore[arg-type]
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                fused=True,
                decoupled_weight_decay=method == "adamw",
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )
            return
        rows = [method == "rowwise_adagrad" and parameter.dim() > 1 for parameter in parameters]
        for parameter, state, by_row in zip(parameters, states, rows, strict=True):
            if by_row:
                gradient = parameter.grad
                assert gradient is not None
                if decay:
                    gradient = gradient.add(parameter, alpha=decay)
                state["step"] += 1
                state["sum"] += gradient.flatten(1).square().mean(1)
                scale = state["sum"].sqrt().add_(ADAGRAD_EPSILON)
                parameter.sub_(lr * gradient / scale.view(-1, *[1] * (parameter.dim() - 1)))
        whole = [i for i, by_row in enumerate(rows) if not by_row]
        if whole:
            adagrad(
                [parameters[i] for i in whole],
                [gradients[i] for i in whole],  # type: ignore[misc]
                [states[i]["sum"] for i in whole],
                [steps[i] for i in whole],
                lr=lr,
                weight_decay=decay,
                lr_decay=0.0,
                eps=ADAGRAD_EPSILON,
                maximize=False,
            )

    def _dense_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            if group["method"] in ("adam", "adamw"):
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            elif group["method"] == "rowwise_adagrad" and parameter.dim() > 1:
                state["sum"] = parameter.new_zeros(parameter.size(0))
            else:
                state["sum"] = torch.zeros_like(parameter)
        return state

    # -- rows ----------------------------------------------------------------------------------

    def _has_clock(self, parameter: Tensor) -> bool:
        """Whether rows of a parameter may have missed steps."""
        # torch's state is a defaultdict: a question by [] would leave an empty state behind.
        return "clock" in self.state.get(parameter, {})

    def _sparse_step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        method, lr, decay = group["method"], group["lr"], group["weight_decay"]
        gradient = parameter.grad
        assert gradient is not None
        rows, values = gradient._indices()[0], gradient._values()  # [n], [n, d]
        if self.average is not None and method not in ("adam", "adamw"):
            self.average.missed(parameter, rows)
        if method == "sgd":
            if decay:
                values = values.add(parameter[rows], alpha=decay)
            parameter.index_add_(0, rows, values, alpha=-lr)
            return
        state = self._dense_state(parameter, group)
        if method in ("adam", "adamw"):
            if "clock" not in state:
                state["clock"] = _Clock.new(int(state["step"]))
                state["last"] = torch.full(
                    (parameter.size(0),), int(state["step"]), dtype=torch.int32
                ).to(parameter.device)
            self._catch_up(parameter, rows)  # nothing is left to do where watch did it
            self._tick(parameter, group)
            state["step"] += 1
            t = int(state["step"])
            w = parameter[rows]  # [n, d]
            if decay and method == "adam":
                values = values.add(w, alpha=decay)
            elif decay:
                w.mul_(1 - lr * decay)
            m = state["exp_avg"][rows].lerp_(values, 1 - BETAS[0])
            v = state["exp_avg_sq"][rows].mul_(BETAS[1])
            v.addcmul_(values, values, value=1 - BETAS[1])
            denominator = v.sqrt().div_(math.sqrt(1 - BETAS[1] ** t)).add_(EPSILON)
            w.addcdiv_(m, denominator, value=-lr / (1 - BETAS[0] ** t))
            state["exp_avg"].index_copy_(0, rows, m)
            state["exp_avg_sq"].index_copy_(0, rows, v)
            state["last"].index_fill_(0, rows, t)
            parameter.index_copy_(0, rows, w)
            return
        state["step"] += 1
        if decay:
            values = values.add(parameter[rows], alpha=decay)
        total = state["sum"][rows]  # [n] or [n, d]
        squares = values.square()
        total += squares.mean(1) if method == "rowwise_adagrad" else squares
        state["sum"].index_copy_(0, rows, total)
        scale = total.sqrt().add_(ADAGRAD_EPSILON)
        scale = scale.unsqueeze(1) if scale.dim() == 1 else scale
        parameter.index_add_(0, rows, values / scale, alpha=-lr)

    def _tick(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """Notes what the step about to be made would do to rows without a gradient."""
        state = self.state[parameter]
        decoupled = group["weight_decay"] if group["method"] == "adamw" else 0.0
        state["clock"] = _Clock.tick(state["clock"], int(state["step"]), group["lr"], decoupled)

    def _catch_up(self, parameter: Tensor, rows: Tensor) -> None:
        """Makes up for the steps that rows have missed."""
        state = self.state[parameter]
        t, last = int(state["step"]), state["last"]
        if rows.numel() == 0:
            return
        rows = rows[last[rows] < t]
        if rows.numel() == 0:
            return
        since = last[rows].long()  # [n]
        momentum, kept = _Clock.missed(state["clock"], since, t)
        m, v = state["exp_avg"][rows], state["exp_avg_sq"][rows]  # [n, d]
        # Without the epsilon, gradients of 1e-12 would move a row as gradients of 1 do. A gradient
        # of 1e-25, with a square of zero, would move it without end.
        epsilon = EPSILON * (1 - BETAS[1] ** (since + 1).double()).sqrt().to(v).unsqueeze(1)
        direction = m / v.sqrt().add_(epsilon)  # [n, d]
        if self.average is not None:
            self.average.missed(parameter, rows, direction)
        w = parameter[rows]
        w = w * kept.to(w).unsqueeze(1) - momentum.to(w).unsqueeze(1) * direction
        steps = (t - since).double()
        m *= (BETAS[0] ** steps).to(m).unsqueeze(1)
        v *= (BETAS[1] ** steps).to(v).unsqueeze(1)
        # A row may come twice: it is then written twice, with the same values.
        parameter.index_copy_(0, rows, w)
        state["exp_avg"].index_copy_(0, rows, m)
        state["exp_avg_sq"].index_copy_(0, rows, v)
        last.index_fill_(0, rows, t)

    def _catch_up_all(self, parameter: Tensor) -> None:
        everything = torch.arange(parameter.size(0), device=parameter.device)
        for rows in everything.split(ROWS_AT_ONCE):
            self._catch_up(parameter, rows)

    @torch.no_grad()
    def settle(self) -> None:
        """Makes up for all missed steps of all rows: the tables are what dense steps had made."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if self._has_clock(parameter):
                    self._catch_up_all(parameter)
        if self.average is not None:
            self.average.settle()

    def row_sparse_tensors(self) -> Iterator[Tensor]:
        """Tables of which rows have caught up with missed steps, their moments and averages."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if self._has_clock(parameter):
                    state = self.state[parameter]
                    yield from (parameter, state["exp_avg"], state["exp_avg_sq"])
        if self.average is not None:
            yield from self.average.averages

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state that :meth:`state_dict` gave."""
        super().load_state_dict(state_dict)
        # torch casts what it loads to the type of the parameter, which steps and sums are not.
        saved = state_dict["state"]
        parameters = [p for group in self.param_groups for p in group["params"]]
        names = [i for group in state_dict["param_groups"] for i in group["params"]]
        for parameter, name in zip(parameters, names, strict=True):
            if "clock" in saved.get(name, {}):
                self.state[parameter]["last"] = saved[name]["last"].to(parameter.device)
                self.state[parameter]["clock"] = dict(saved[name]["clock"])

    def clocks_to_cpu(self) -> None:
        """Brings the clocks of tables home, which Lightning moves to the device of the weights."""
        for state in self.state.values():
            if "clock" in state:
                state["clock"] = {name: value.cpu() for name, value in state["clock"].items()}

    def watch(self, module: torch.nn.Module) -> None:
        """Has rows of the sparse embeddings of a module catch up before training reads them.

        Args:
            module: The model; its embeddings with ``sparse=True`` are watched until
                :meth:`unwatch`.
        """

        def before(embedding: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            weight = embedding.weight
            if embedding.training and self._has_clock(weight):  # type: ignore[arg-type]
                with torch.no_grad():
                    self._catch_up(weight, inputs[0].reshape(-1))  # type: ignore[arg-type]

        for part in module.modules():
            if isinstance(part, Embedding) and part.sparse:
                self.handles.append(part.register_forward_pre_hook(before))

    def unwatch(self) -> None:
        """Ends :meth:`watch`."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float, *, by_value: bool = False) -> None:
    """Bounds gradients, dense and row-sparse ones together, as ``torch.nn.utils`` does dense ones.

    Args:
        parameters: Parameters with or without a gradient.
        most: The largest norm of the whole gradient, beyond which it is scaled down.
        by_value: Whether ``most`` is the largest size of each number instead.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad._values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    if by_value:
        for gradient in gradients:
            gradient.clamp_(-most, most)
    elif gradients:
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        scale = (most / (norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(scale)


@contextmanager
def sparse_tables(model: torch.nn.Module, wanted: bool = True) -> Iterator[None]:
    """Gives the large embedding tables of a model row-sparse gradients for a while.

    Args:
        model: Any module; tables of fewer than :data:`SPARSE_FROM` rows stay dense.
        wanted: Whether to do so at all: a loss over all items has no sparse gradient.
    """
    tables = [
        module
        for module in model.modules()
        if isinstance(module, Embedding) and module.num_embeddings >= SPARSE_FROM
    ]
    before = [table.sparse for table in tables]
    try:
        for table in tables:
            table.sparse = wanted
        yield
    finally:
        for table, sparse in zip(tables, before, strict=True):
            table.sparse = sparse


class _Clock:
    r"""What Adam's steps do to rows without a gradient, as tensors that a checkpoint holds.

    ``recent`` [MEMORY + 1] is :math:`c_k = \sum_{i=1}^{k} a_{n-k+i} r^i` of the ``k`` latest steps.
    Here :math:`r = \beta_1 / \sqrt{\beta_2}`, and each term is under the decoupled decay of the
    steps after it. ``faded`` [capacity] is, at step ``n``, :math:`c` of ``MEMORY`` steps: all that
    a row last touched at ``n - MEMORY`` ever moves. ``decay`` [capacity] is the running sum of
    :math:`\log(1 - \eta \lambda)`.
    """

    RATIO = BETAS[0] / math.sqrt(BETAS[1])
    POWERS = torch.tensor(RATIO, dtype=torch.double) ** torch.arange(MEMORY + 1)

    @staticmethod
    def new(step: int) -> dict[str, Tensor]:
        empty = torch.zeros(step + 1024, dtype=torch.double)
        return {
            "recent": torch.zeros(MEMORY + 1, dtype=torch.double),
            "faded": empty,
            "decay": empty.clone(),
        }

    @classmethod
    def tick(
        cls, clock: dict[str, Tensor], step: int, lr: float, decay: float
    ) -> dict[str, Tensor]:
        """The clock after step ``step + 1``, with this learning rate and decoupled decay."""
        n = step + 1
        if n >= clock["faded"].numel():
            for name in ("faded", "decay"):
                clock[name] = torch.cat([clock[name], torch.zeros_like(clock[name])])
        a = lr * math.sqrt(1 - BETAS[1] ** n) / (1 - BETAS[0] ** n)
        recent = a * cls.POWERS
        recent[1:] += clock["recent"][:-1] * (1 - lr * decay)
        recent[0] = 0.0
        clock["recent"] = recent
        clock["faded"][n] = recent[-1]
        clock["decay"][n] = clock["decay"][n - 1] + math.log1p(-lr * decay)
        return clock

    @staticmethod
    def missed(clock: dict[str, Tensor], since: Tensor, now: int) -> tuple[Tensor, Tensor]:
        """What rows last touched at steps ``since`` [n] miss at step ``now``.

        Returns:
            The sum that multiplies :math:`-m / \\sqrt v`, and the share of the row that the decay
            leaves, float64 [n] both.
        """
        device = since.device
        steps = now - since
        recent = clock["recent"].to(device)[steps.clamp(max=MEMORY)]
        faded = clock["faded"].to(device)[(since + MEMORY).clamp(max=now)]
        decay = clock["decay"].to(device)
        kept = (decay[now] - decay[since]).exp()
        later = (decay[now] - decay[(since + MEMORY).clamp(max=now)]).exp()
        return torch.where(steps > MEMORY, faded * later, recent), kept
