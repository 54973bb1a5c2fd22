"""Differentiable operations on Gaussians, hash grids and volumes: each a torch reference and kernels for CPU and CUDA.

One training step, as the trainer writes it (shapes in brackets; the columns' order is in `layout`):

    attributes = blend(base[N,14], deltas[N,K,14], weights[G,K], group[N] int32).detach().requires_grad_()
    splats = project(attributes, skin[N], head[3,4], torso[3,4], focal_px, center_x_px, center_y_px, width, height)
    image = rasterise(splats, height_px, width_px)              # [H, W, 4], premultiplied rgb and alpha
    loss = l1_dssim(image, target[H,W,3], weight[H,W], 0.2, background=background[H,W,3])   # composited inside
    loss.backward()
    weights_grad = blend_adam_step_(base, deltas, m_base, v_base, m_deltas, v_deltas, attributes.grad, weights.detach(),
                                    group, step, lr[14], delta_lr[14])
    weights.backward(weights_grad)                              # on into the network that gave the weights

and at run time, without gradients: `render_frame(...) -> uint8 [H, W, 3]` for one frame, and
`render_frames([Frame, ...]) -> uint8 [B, H, W, 3]` for frames of one avatar or of several. On CUDA both are one launch
of each kernel, reading half-precision deltas as they are, and `frame_graph.FrameGraph` replays the launches.

`hash_encode(points[N,D], table[R,F], HashGrid.between(D, levels, coarsest, finest, rows_log2))` gives the features of a
multi-resolution hash grid, [N, levels * F], differentiable in points and table; `triplane_encode` those of three
planes.
For a volume instead of Gaussians, `march_rays` gives the samples of rays that lie in the occupied cells of an
`OccupancyGrid`, and `composite_rays` what the rays see of them. `fused_mlp(x[S,I], parameters[P], (I, H, ..., O))`
evaluates a small perceptron without leaving the cache between its layers. `see_field` does all of that at once for
pictures of a whole `Field`.
`driver_networks` holds what the driver asks at a live moment, each network in one call of the CPU's library.

Every operation takes `backend="auto" | "reference" | "cpu" | "cuda"`, and `"tcnn"` or `"nerfacc"` where those are
installed, for what they have; `choose(backend)` says what that comes to and
why. The native kernels take contiguous float32 tensors on their device. The CPU's are bit-for-bit repeatable for a
given thread count and instruction set (`native.set_threads`, `native.set_isa`, or the environment's AVATARFIT_THREADS
and AVATARFIT_ISA). CUDA's run on torch's current stream and wait for nothing, except that a `group` tensor is looked at
once, when it is first seen, and that `march_rays` waits for the number of its samples; the gradients of `rasterise` and
of `hash_encode`'s table are summed by atomics, so their last bits may differ from run to run.
They compile and agree with the reference in an emulation; they have not been run on a GPU yet.
"""

from avatarfit.ops.backend import Choice, choose
from avatarfit.ops.blend import blend, blend_reference, blend_weights_grad
from avatarfit.ops.blend_adam import blend_adam_step_
from avatarfit.ops.composite import RayLight, composite_rays, composite_rays_reference
from avatarfit.ops.field import Field, field_colour, field_density, see_field, see_field_reference
from avatarfit.ops.frame import Frame, Gaussians
from avatarfit.ops.fused_mlp import fused_mlp, fused_mlp_reference, mlp_layers, mlp_parameter_count
from avatarfit.ops.hash_encode import hash_encode, hash_encode_reference, triplane_encode
from avatarfit.ops.hash_grid import HashGrid
from avatarfit.ops.loss import l1_dssim, l1_dssim_reference, l1_dssim_with_gradient, ssim_map
from avatarfit.ops.march import RaySamples, march_rays, march_rays_reference
from avatarfit.ops.occupancy import OccupancyGrid
from avatarfit.ops.project import project, project_reference, rotation_matrices
from avatarfit.ops.rasterise import rasterise, rasterise_depth, rasterise_over, rasterise_reference
from avatarfit.ops.render import render_frame, render_frames

__all__ = [
    "Choice",
    "Field",
    "Frame",
    "Gaussians",
    "HashGrid",
    "OccupancyGrid",
    "RayLight",
    "RaySamples",
    "blend",
    "blend_adam_step_",
    "blend_reference",
    "blend_weights_grad",
    "choose",
    "composite_rays",
    "composite_rays_reference",
    "field_colour",
    "field_density",
    "fused_mlp",
    "fused_mlp_reference",
    "hash_encode",
    "hash_encode_reference",
    "l1_dssim",
    "l1_dssim_reference",
    "l1_dssim_with_gradient",
    "march_rays",
    "march_rays_reference",
    "mlp_layers",
    "mlp_parameter_count",
    "project",
    "project_reference",
    "rasterise",
    "rasterise_depth",
    "rasterise_over",
    "rasterise_reference",
    "render_frame",
    "render_frames",
    "rotation_matrices",
    "see_field",
    "see_field_reference",
    "ssim_map",
    "triplane_encode",
]
