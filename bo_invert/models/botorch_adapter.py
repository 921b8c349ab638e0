"""To BoTorch and back: the same model there, so that all its acquisition functions work, and our fit for its models.

``SingleTaskGP`` with its default kernel (or Matern-5/2) and default priors is the very model of ``models``; this file
only moves the numbers. Install nothing more; import it from here::

    from botorch.models import SingleTaskGP
    from bo_invert.models.botorch_adapter import fit_botorch

    model = fit_botorch(SingleTaskGP(X, Y))  # instead of fit_gpytorch_mll(ExactMarginalLogLikelihood(...))
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import MaternKernel, RBFKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.means import ConstantMean
from gpytorch.priors import LogNormalPrior
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.gp.hyperparameters import NOISY, NoisePrior, fit_hyperparameters
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.gp.surrogate import Surrogate

Model = TypeVar("Model", bound=Any)


def to_botorch(model: GPPosterior | Surrogate, noise_prior: NoisePrior = NOISY) -> Any:
    """The same model as a BoTorch ``SingleTaskGP``, in evaluation mode.

    A process becomes a model without outcome transform, a surrogate one with ``Standardize``. One noise to an output
    becomes a ``GaussianLikelihood``, one to an observation a ``FixedNoiseGaussianLikelihood``.

    Args:
        model: without fantasies; a surrogate neither warped nor on principal components.
        belief: its prior and least noise are given to the likelihood.

    Raises:
        InvalidInputError: BoTorch's model cannot say the same.
    """
    surrogate = model if isinstance(model, Surrogate) else None
    process = model.gp if isinstance(model, Surrogate) else model
    if process.values.shape[-1] != 1:
        raise InvalidInputError(
            "to_botorch wants a process without fantasies; use the one they were drawn from"
        )
    if surrogate is not None and (
        surrogate.warp is not None or len(set(surrogate.weights.shape)) > 1
    ):
        raise InvalidInputError(
            "to_botorch cannot express a warped surrogate or one of principal components; "
            "pass its process, whose numbers are the warped or projected ones"
        )
    k, d = process.log_lengthscales.shape
    batch = torch.Size([k] if k > 1 else [])
    inputs, values = process.inputs, process.values[..., 0].mT
    noise = process.noise
    single = bool((noise == noise[:, :1]).all())
    likelihood = None
    if single:
        likelihood = GaussianLikelihood(
            noise_prior=LogNormalPrior(noise_prior.log_mean, noise_prior.log_std),
            noise_constraint=GreaterThan(
                noise_prior.min_noise * (1.0 - 1e-9),
                transform=None,
                initial_value=noise_prior.min_noise,
            ),
            batch_shape=batch,
        ).to(inputs)
    made = SingleTaskGP(
        inputs,
        values,
        train_Yvar=None if single else noise.mT,
        likelihood=likelihood,
        covar_module=_covariance(process.kernel, d, batch).to(inputs),
        outcome_transform=None,
    )
    _set(made, process)
    if surrogate is not None:
        made.outcome_transform = _standardize(surrogate)
    return made.eval()


def from_botorch(model: Any) -> Surrogate:
    """A fitted ``SingleTaskGP`` as a surrogate; its ``process`` speaks of standardised numbers.

    Raises:
        InvalidInputError: the model has an input transform, which a surrogate has not; or kernel, mean, likelihood or
            outcome transform are not among those known here; the message says which.
    """
    inputs, values = _data(model)
    if getattr(model, "input_transform", None) is not None:
        raise InvalidInputError(
            "from_botorch: the model has an input transform, and a surrogate would take inputs as they are. Make the "
            "model of transformed inputs instead (SingleTaskGP(transform(X), Y)), or keep using the BoTorch model; "
            "fit_botorch takes input transforms"
        )
    _mean(model)
    k, (n, d) = values.shape[1], inputs.shape
    noise = model.likelihood.noise.detach().reshape(k, -1)
    logs = model.covar_module.lengthscale.detach().reshape(k, d).log()
    constant = model.mean_module.constant.detach().reshape(k)
    process = condition(
        _kernel(model), logs, noise.expand(k, n).contiguous(), inputs, values, constant
    )
    offset, scale = values.new_zeros(k), values.new_ones(k)
    transform = getattr(model, "outcome_transform", None)
    if isinstance(transform, Standardize):
        offset, scale = transform.means.detach().reshape(k), transform.stdvs.detach().reshape(k)
    elif transform is not None:
        raise InvalidInputError(
            f"from_botorch knows the outcome transform Standardize, not {type(transform).__name__}"
        )
    return Surrogate(process, scale.diag(), offset, torch.zeros_like(offset), None, None)


def fit_botorch(model: Model) -> Model:
    """Set a ``SingleTaskGP``'s hyperparameters to the most probable ones, by closed-form gradients.

    The objective is that of ``fit_gpytorch_mll`` with ``ExactMarginalLogLikelihood``: the model's own priors and
    constraints. Its present hyperparameters are one of several starts. Of more than 400 points, 400 are looked at
    for lengthscales and noise.

    Args:
        model: RBF or Matern-5/2 with BoTorch's dimension-scaled prior, constant mean, noise with a log-normal prior or
            known; any input transform, any outcome transform.

    Returns:
        The same model, changed in place and in evaluation mode.

    Raises:
        InvalidInputError: a part of the model is not among those known here; the message says which.
    """
    inputs, values = _data(model)
    _mean(model)
    which, belief = _kernel(model), _belief(model)
    k, d = values.shape[1], inputs.shape[1]
    known = None
    if isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
        known = model.likelihood.noise.detach().reshape(k, -1).mT
        noise = values.new_full((k, 1), belief.min_noise)
    else:
        noise = model.likelihood.noise.detach().reshape(k, 1)
    warm = torch.cat([model.covar_module.lengthscale.detach().reshape(k, d), noise], 1).log()
    logs, _ = fit_hyperparameters(inputs, values, belief, which, warm, known)
    spread = logs[:, -1].exp() if known is None else known.mT
    _set(model, condition(which, logs[:, :-1], spread, inputs, values))
    model.eval()
    return model


def _set(model: Any, process: GPPosterior) -> None:
    """Write a process's hyperparameters into a model; known noise is the model's own."""
    with torch.no_grad():
        covar, mean, likelihood = model.covar_module, model.mean_module, model.likelihood
        covar.lengthscale = process.log_lengthscales.exp().reshape(covar.lengthscale.shape)
        mean.constant = process.constant.reshape(mean.constant.shape)
        if not isinstance(likelihood, FixedNoiseGaussianLikelihood):
            likelihood.noise = process.noise[:, :1].reshape(likelihood.noise.shape)


def _data(model: Any) -> tuple[Tensor, Tensor]:
    """Inputs ``(n, d)`` and values ``(n, k)`` as the kernel and the likelihood see them."""
    if not isinstance(model, SingleTaskGP):
        raise InvalidInputError(
            f"a SingleTaskGP is wanted, got {type(model).__name__}; fit the members of a list one by one"
        )
    inputs, targets = model.train_inputs[0], model.train_targets
    if model.training:  # otherwise the model has transformed them itself
        inputs = model.transform_inputs(inputs)
    k = getattr(model, "num_outputs", 1)
    if inputs.dim() != (3 if k > 1 else 2):
        raise InvalidInputError(
            f"batched training data are not supported; inputs have shape {tuple(inputs.shape)}"
        )
    return (inputs[0] if k > 1 else inputs).detach(), targets.detach().reshape(k, -1).mT


def _kernel(model: Any) -> Kernel:
    covar = model.covar_module
    plain = covar.active_dims is None and covar.ard_num_dims == model.train_inputs[0].shape[-1]
    if isinstance(covar, RBFKernel) and plain:
        return RBF
    if isinstance(covar, MaternKernel) and covar.nu == 2.5 and plain:
        return MATERN
    raise InvalidInputError(
        f"the kernel must be an RBFKernel or a MaternKernel(nu=2.5) with ARD over all inputs and no ScaleKernel around "
        f"it, as get_covar_module_with_dim_scaled_prior makes; got {covar}"
    )


def _mean(model: Any) -> None:
    if not isinstance(model.mean_module, ConstantMean):
        raise InvalidInputError(f"the mean must be a ConstantMean, got {model.mean_module}")


def _belief(model: Any) -> NoisePrior:
    """What a model believes of its noise, and its shortest lengthscale."""
    covar, likelihood = model.covar_module, model.likelihood
    prior = getattr(covar, "lengthscale_prior", None)
    d = covar.ard_num_dims
    expected = (math.sqrt(2.0) + 0.5 * math.log(d), math.sqrt(3.0))
    if not isinstance(prior, LogNormalPrior) or not _close(prior, *expected):
        raise InvalidInputError(
            f"fit_botorch knows the dimension-scaled prior of lengthscales, LogNormal({expected[0]:.3f}, "
            f"{expected[1]:.3f}), as get_covar_module_with_dim_scaled_prior gives it; the model has another"
        )
    shortest = float(covar.raw_lengthscale_constraint.lower_bound)
    if isinstance(likelihood, FixedNoiseGaussianLikelihood):
        return NoisePrior("known", NOISY.log_mean, NOISY.log_std, 1e-12, shortest, max_noise=1e-12)
    noise = getattr(likelihood, "noise_covar", None)
    prior = getattr(noise, "noise_prior", None)
    if noise is None or not isinstance(prior, LogNormalPrior):
        raise InvalidInputError(
            "fit_botorch knows a LogNormalPrior on the noise, or known noise; the model has another"
        )
    floor = float(noise.raw_noise_constraint.lower_bound)
    return NoisePrior(
        "botorch", float(prior.loc), float(prior.scale), max(floor, 1e-12), shortest, max_noise=1e6
    )


def _close(prior: Any, loc: float, scale: float) -> bool:
    return bool(abs(float(prior.loc) - loc) < 1e-6 and abs(float(prior.scale) - scale) < 1e-6)


def _covariance(which: Kernel, d: int, batch: torch.Size) -> Any:
    made = RBFKernel if which is RBF else MaternKernel
    centre = math.sqrt(2.0) + 0.5 * math.log(d)
    prior = LogNormalPrior(centre, math.sqrt(3.0))
    bound = GreaterThan(NOISY.min_lengthscale, transform=None, initial_value=prior.mode)
    return made(
        ard_num_dims=d, batch_shape=batch, lengthscale_prior=prior, lengthscale_constraint=bound
    )


def _standardize(surrogate: Surrogate) -> Any:
    k = len(surrogate.offset)
    transform = Standardize(m=k)
    spread = surrogate.weights.diagonal()
    state = {"means": surrogate.offset[None], "stdvs": spread[None], "_stdvs_sq": spread[None] ** 2}
    transform.load_state_dict(
        {**transform.state_dict(), **state, "_is_trained": torch.tensor(True)}
    )
    return transform.to(surrogate.offset).eval()
