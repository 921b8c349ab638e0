"""Conversion of surrogates to and from BoTorch, and a fast fit of BoTorch's models.

``SingleTaskGP`` with its default priors, and an RBF or Matern-5/2 kernel, is the model of this
package. Import from this file::

    from botorch.models import SingleTaskGP
    from bo_invert.models.botorch_adapter import fit_botorch

    model = fit_botorch(SingleTaskGP(X, Y))  # instead of fit_gpytorch_mll(...)
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.posteriors import Posterior, TransformedPosterior
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import MaternKernel, RBFKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.means import ConstantMean
from gpytorch.priors import LogNormalPrior
from torch import Tensor

from bo_invert.errors import InvalidInputError
from bo_invert.models.gp.hyperparameter_fit import NOISY, NoisePrior, fit_hyperparameters
from bo_invert.models.gp.kernels import MATERN, RBF, Kernel
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.user_code import own_settings

Model = TypeVar("Model", bound=SingleTaskGP)
# Standard deviation of an output below which its variances are scaled last. Engineering choice: at
# larger ones gpytorch's bound is below 1e-7 of the variance of the output.
_SMALL = 0.1


@own_settings()
def to_botorch(model: GPPosterior | Surrogate, noise_prior: NoisePrior = NOISY) -> SingleTaskGP:
    """Convert a model to a BoTorch ``SingleTaskGP`` in evaluation mode.

    A surrogate gets the outcome transform ``Standardize``, a posterior none. One noise variance per
    output becomes a ``GaussianLikelihood``, one per observation a ``FixedNoiseGaussianLikelihood``.

    Args:
        model: Posterior without fantasies, or surrogate without warp and principal components.
        noise_prior: Noise prior and bound of the likelihood.

    Raises:
        InvalidInputError: BoTorch has no equivalent model.
    """
    surrogate = model if isinstance(model, Surrogate) else None
    gp = model.gp if isinstance(model, Surrogate) else model
    if gp.values.shape[-1] != 1:
        raise InvalidInputError(
            f"to_botorch: model must have no fantasies, got {gp.values.shape[-1]}. "
            "Use the posterior before fantasize()."
        )
    if surrogate is not None and (
        surrogate.warp is not None or len(set(surrogate.weights.shape)) > 1
    ):
        raise InvalidInputError(
            "to_botorch: model must have no output warp and no principal components, got a warped "
            "or projected surrogate. Pass model.gp, the posterior of the transformed outputs."
        )
    # BoTorch batches over outputs, and has no batch dimension for a single one.
    k, d = gp.log_lengthscales.shape
    batch = torch.Size([k] if k > 1 else [])
    noise, likelihood = gp.noise, None
    single = bool((noise == noise[:, :1]).all())
    if single:
        # The noise may equal its bound; a slightly lower bound keeps it inside.
        likelihood = GaussianLikelihood(
            noise_prior=LogNormalPrior(noise_prior.log_mean, noise_prior.log_std),
            noise_constraint=GreaterThan(
                noise_prior.min_noise * (1.0 - 1e-9),
                transform=None,
                initial_value=noise_prior.min_noise,
            ),
            batch_shape=batch,
        ).to(gp.inputs)
    made = SingleTaskGP(
        gp.inputs,
        gp.values[..., 0].mT,
        train_Yvar=None if single else noise.mT,
        likelihood=likelihood,
        covar_module=get_covar_module_with_dim_scaled_prior(d, batch, gp.kernel is RBF),
        outcome_transform=None,
    )
    _set_hyperparameters(made, gp)
    if surrogate is not None:
        made.outcome_transform = _standardize(surrogate)
    return made.eval()


@own_settings()
def from_botorch(model: SingleTaskGP) -> Surrogate:
    """Convert a fitted ``SingleTaskGP`` to a surrogate.

    Raises:
        InvalidInputError: The model has an input transform, or a kernel, mean, likelihood or
            outcome transform without equivalent.
    """
    kernel, inputs, values, logs, noise = _parts(model)
    if getattr(model, "input_transform", None) is not None:
        raise InvalidInputError(
            "from_botorch: model must have no input transform. Use a model of transformed inputs, "
            "SingleTaskGP(transform(X), Y), or the BoTorch model itself; fit_botorch accepts input "
            "transforms."
        )
    (n, k), constant = values.shape, model.mean_module.constant.detach().reshape(-1)
    gp = condition(kernel, logs, noise.expand(k, n).contiguous(), inputs, values, constant)
    # Standardize: y = offset + scale * s with scores s
    offset, scale = values.new_zeros(k), values.new_ones(k)
    transform = getattr(model, "outcome_transform", None)
    if isinstance(transform, Standardize):
        offset, scale = transform.means.detach().reshape(k), transform.stdvs.detach().reshape(k)
    elif transform is not None:
        raise InvalidInputError(
            "from_botorch: outcome_transform must be Standardize or None, got "
            f"{type(transform).__name__}. Use the BoTorch model itself."
        )
    return Surrogate(gp, gp, scale.diag(), offset, torch.zeros_like(offset), None, None)


@own_settings()
def fit_botorch(model: Model) -> Model:
    """Fit the hyperparameters of a ``SingleTaskGP`` by analytic gradients.

    The objective is that of ``fit_gpytorch_mll`` with ``ExactMarginalLogLikelihood``: the priors
    and constraints of the model. Its hyperparameters are one of several starts. At most 400
    observations determine lengthscales and noise.

    Args:
        model: RBF or Matern-5/2 kernel with BoTorch's dimension-scaled prior, constant mean, and a
            log-normal noise prior or known noise. Input and outcome transforms are allowed.

    Returns:
        The same model, changed in place, in evaluation mode.

    Raises:
        InvalidInputError: A part of the model has no equivalent.
    """
    kernel, inputs, values, lengthscales, noise = _parts(model)
    noise_prior = _noise_prior(model)
    known = None
    if isinstance(model.likelihood, FixedNoiseGaussianLikelihood):
        known, noise = noise.mT, noise.new_full((len(noise), 1), noise_prior.min_noise)
    # The current hyperparameters are one more start.
    logs, _ = fit_hyperparameters(
        inputs, values, noise_prior, kernel, torch.cat([lengthscales, noise.log()], 1), known
    )
    spread = logs[:, -1].exp() if known is None else known.mT
    _set_hyperparameters(model, condition(kernel, logs[:, :-1], spread, inputs, values))
    model.eval()
    return model


@torch.no_grad()
def _set_hyperparameters(model: SingleTaskGP, gp: GPPosterior) -> None:
    """Write the hyperparameters of a posterior into a model, except for known noise."""
    # Assignment to these properties passes through the constraints of gpytorch.
    covar, mean, likelihood = model.covar_module, model.mean_module, model.likelihood
    covar.lengthscale = gp.log_lengthscales.exp().reshape(covar.lengthscale.shape)
    mean.constant = gp.constant.reshape(mean.constant.shape)
    if not isinstance(likelihood, FixedNoiseGaussianLikelihood):
        likelihood.noise = gp.noise[:, :1].reshape(likelihood.noise.shape)


def _parts(model: object) -> tuple[Kernel, Tensor, Tensor, Tensor, Tensor]:
    """Return kernel, data and hyperparameters of a model.

    Returns:
        Kernel, inputs ``(n, d)`` and values ``(n, k)`` as kernel and likelihood see them,
        logarithms of the lengthscales ``(k, d)``, and noise variances ``(k, 1)`` or ``(k, n)``.

    Raises:
        InvalidInputError: A part of the model has no equivalent.
    """
    if not isinstance(model, SingleTaskGP):
        raise InvalidInputError(
            f"botorch_adapter: model must be a SingleTaskGP, got {type(model).__name__}. "
            "Convert the members of a list one by one."
        )
    inputs, targets = model.train_inputs[0], model.train_targets
    if model.training:  # in evaluation mode the stored inputs are already transformed
        inputs = model.transform_inputs(inputs)
    k = model.num_outputs
    if inputs.dim() != (3 if k > 1 else 2):
        raise InvalidInputError(
            f"botorch_adapter: training inputs must have shape (n, d), got {tuple(inputs.shape)}. "
            "Batched data are not supported."
        )
    if not isinstance(model.mean_module, ConstantMean):
        raise InvalidInputError(
            f"botorch_adapter: mean_module must be a ConstantMean, got {model.mean_module}."
        )
    covar, d = model.covar_module, inputs.shape[-1]
    known = isinstance(covar, RBFKernel) or (isinstance(covar, MaternKernel) and covar.nu == 2.5)
    if not known or covar.active_dims is not None or covar.ard_num_dims != d:
        raise InvalidInputError(
            "botorch_adapter: covar_module must be RBFKernel or MaternKernel(nu=2.5) with ARD over "
            f"all inputs and without ScaleKernel, got {covar}. Use "
            "get_covar_module_with_dim_scaled_prior."
        )
    # Hyperparameters have shapes (k, 1, d) and (k, 1) or (k, n), without k for one output.
    return (
        RBF if isinstance(covar, RBFKernel) else MATERN,
        (inputs[0] if k > 1 else inputs).detach(),
        targets.detach().reshape(k, -1).mT,
        covar.lengthscale.detach().reshape(k, d).log(),
        model.likelihood.noise.detach().reshape(k, -1),
    )


def _noise_prior(model: SingleTaskGP) -> NoisePrior:
    """Return the noise prior and the bounds of a model."""
    covar, likelihood = model.covar_module, model.likelihood
    prior = getattr(covar, "lengthscale_prior", None)
    expected = (math.sqrt(2.0) + 0.5 * math.log(covar.ard_num_dims), math.sqrt(3.0))
    if (
        not isinstance(prior, LogNormalPrior)
        or math.dist((float(prior.loc), float(prior.scale)), expected) > 1e-6
    ):
        raise InvalidInputError(
            "fit_botorch: lengthscale_prior must be the dimension-scaled LogNormalPrior("
            f"{expected[0]:.3f}, {expected[1]:.3f}), got {prior}. Use "
            "get_covar_module_with_dim_scaled_prior."
        )
    shortest = float(covar.raw_lengthscale_constraint.lower_bound)
    if isinstance(likelihood, FixedNoiseGaussianLikelihood):
        return NoisePrior("known", NOISY.log_mean, NOISY.log_std, 1e-12, shortest, max_noise=1e-12)
    noise = getattr(likelihood, "noise_covar", None)
    prior = getattr(noise, "noise_prior", None)
    if noise is None or not isinstance(prior, LogNormalPrior):
        raise InvalidInputError(
            f"fit_botorch: noise_prior must be a LogNormalPrior, got {prior}. "
            "Use one, or known noise."
        )
    # A bound of 0 would allow singular covariances.
    floor = max(float(noise.raw_noise_constraint.lower_bound), 1e-12)
    return NoisePrior(
        "botorch", float(prior.loc), float(prior.scale), floor, shortest, max_noise=1e6
    )


def _standardize(surrogate: Surrogate) -> Standardize:
    """Return a trained ``Standardize`` with the offset and scale of a surrogate."""
    spread = surrogate.weights.diagonal()[None]
    kind = _SmallStandardize if bool((spread < _SMALL).any()) else Standardize
    # Converted first: copies into buffers of single precision would round.
    transform = kind(m=len(surrogate.offset)).to(surrogate.offset)
    state = {"means": surrogate.offset[None], "stdvs": spread, "_stdvs_sq": spread**2}
    transform.load_state_dict(
        {**transform.state_dict(), **state, "_is_trained": torch.tensor(True)}
    )
    return transform.eval()


class _SmallStandardize(Standardize):  # type: ignore[misc]  # BoTorch is untyped here
    """Outcome transform of small outputs: it scales variances after gpytorch bounds them.

    The bound of a variance, 1e-10 for double precision, would otherwise hold in units of outputs.
    """

    def untransform_posterior(self, posterior: Posterior, X: Tensor | None = None) -> Posterior:
        del X
        return TransformedPosterior(
            posterior,
            sample_transform=lambda samples: self.means + self.stdvs * samples,
            mean_transform=lambda mean, variance: self.means + self.stdvs * mean,
            variance_transform=lambda mean, variance: self._stdvs_sq * variance,
        )
