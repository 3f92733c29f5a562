"""The nets, their pretrained weights, and what is folded for inference."""

import pytest
import timm
import torch

from apps.pathology.inference import TILES, ready, saliency
from apps.pathology.lite0 import Lite0
from apps.pathology.model import ModelConfig, build, centre
from apps.pathology.pretrained import load_densenet121, load_lite0
from core.inference import folded


def tiles(n=3, side=96, seed=0):
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def shaken(net, seed=0):
    """The same net with batch-norm statistics as after training, so that folding has something to do."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.1, generator=generator)
    return net.eval()


@pytest.mark.parametrize("size", [(96, 96), (97, 64), (33, 128)])
def test_our_lite0_is_timms_to_the_bit(size):
    ours, theirs = Lite0().eval(), timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="").eval()
    load_lite0(ours)
    load_lite0(theirs)
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        last, maps = ours.forward_intermediates(x, [0, 1, 2, 3, 4])
        assert torch.equal(last, theirs(x))
        for a, b in zip(maps, theirs.forward_intermediates(x, indices=[0, 1, 2, 3, 4])[1], strict=True):
            assert torch.equal(a, b)


def test_imagenet_weights_see_the_difference_between_pictures():
    """With weights in the wrong order features are noise: a crop is then as near to another picture as to its own."""
    from skimage import data

    crops = torch.stack([torch.from_numpy(picture()[y : y + 224, x : x + 224].copy()).permute(2, 0, 1)
                         for picture in (data.astronaut, data.coffee, data.chelsea) for y, x in ((20, 80), (60, 130))])
    for name in ("lite0", "densenet121"):
        net = build(ModelConfig(name, side=224)).eval()
        with torch.inference_mode():
            pooled = torch.nn.functional.normalize(net.features(crops).mean((-2, -1)))
        alike = pooled @ pooled.T - torch.eye(6)
        assert alike.argmax(1).tolist() == [1, 0, 3, 2, 5, 4], name


def test_densenet_keeps_keras_epsilon():
    net = timm.create_model("densenet121", num_classes=0, global_pool="")
    load_densenet121(net)
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1.001e-5}


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        load_lite0(timm.create_model("resnet18"))


@pytest.mark.parametrize("name", ["lite0", "densenet121", "p4m"])
def test_a_net_gives_one_logit_a_tile_whatever_its_company(name):
    net = shaken(build(ModelConfig(name, pretrained=False)))
    with torch.inference_mode():
        together = net(tiles(4))
        assert together.shape == (4,)
        for i in range(4):
            torch.testing.assert_close(net(tiles(4)[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lite0", "densenet121", "p4m"])
def test_folding_changes_nothing_but_the_work(name):
    net = shaken(build(ModelConfig(name, pretrained=False)))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fast = folded(net, (TILES,))
    with torch.inference_mode():
        torch.testing.assert_close(fast(tiles()), net(tiles()), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in n.modules()) for n in (net, fast)]
    if name == "lite0":
        assert norms == [49, 0]


def test_a_net_whose_neighbours_do_not_follow_each_other_is_left_alone():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(x.float())).mean((1, 2, 3))

    odd = shaken(Odd())
    fast = folded(odd, (TILES,))
    with torch.inference_mode():
        assert torch.equal(fast(tiles()), odd(tiles()))


def test_bfloat16_answers_nearly_the_same():
    net = shaken(build(ModelConfig("lite0")))
    with torch.inference_mode():
        exact, fast = net(tiles(8)), ready(net, torch.device("cpu"), "bfloat16")(tiles(8)).float()
    assert (exact - fast).abs().max() < 0.1 * exact.std() + 0.05


@pytest.mark.parametrize("name", ["lite0", "densenet121", "p4m"])
def test_grad_cam_looks_where_the_logit_depends(name):
    net = shaken(build(ModelConfig(name, pretrained=False))).requires_grad_(False)
    cam = saliency(net, tiles(2))
    assert cam.shape == (2, 96, 96)
    assert cam.min() >= 0
    assert cam.max() <= 1
    assert not cam.requires_grad


def test_saliency_of_known_maps():
    """A net whose logit is a known sum over a known map."""
    class Known(torch.nn.Module):
        def maps(self, images):
            fine = images.float().requires_grad_()  # (B, 3, H, W)
            coarse = torch.nn.functional.avg_pool2d(fine[:, :2], 8)  # (B, 2, 1, 1)
            return [fine, coarse], 64 * (2 * coarse[:, 0] - coarse[:, 1]).sum((1, 2))

    images = tiles(2, 8)
    wanted = torch.relu(2 * images[:, 0].float() - images[:, 1].float())
    torch.testing.assert_close(saliency(Known(), images), wanted / wanted.amax((1, 2), keepdim=True))


def test_centre_is_the_middle_third():
    assert centre(torch.arange(9.0).view(1, 1, 3, 3)).flatten().tolist() == [4.0]
    assert centre(torch.zeros(1, 1, 6, 6)).shape[-2:] == (2, 2)


def test_unknown_backbones_get_a_sentence():
    with pytest.raises(ValueError, match="not known"):
        build(ModelConfig("lite1"))


@pytest.mark.parametrize(("change", "says"), [
    ({"side": 8}, "side is 8; it must be at least 32 and at most 512"), ({"side": 10**6}, "side"),
    ({"growth": 0}, "growth"),
    ({"growth": 65}, "growth"), ({"dropout": 7}, "dropout"), ({"dropout": float("nan")}, "dropout"),
    ({"drop_path": -0.1}, "drop_path"),
])
def test_a_net_that_makes_no_sense_is_told(change, says):
    with pytest.raises(ValueError, match=rf"model\.{says}"):
        ModelConfig(**change)
