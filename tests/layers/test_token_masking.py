"""layers.token_masking: a share of the tokens, whole ones, another one for each sample."""

import torch

from mesh_graphormer_hand.layers.token_masking import MASKED_VALUE, mask_tokens


def test_whole_tokens_up_to_the_share_are_hidden():
    tokens = torch.randn(64, 200, 5)
    out = mask_tokens(tokens, 0.3)
    hidden = (out == MASKED_VALUE).all(-1)
    assert torch.equal(out[~hidden], tokens[~hidden])
    share = hidden.float().mean(1)
    assert share.max() < 0.45 and share.min() < 0.05 and 0.1 < share.mean() < 0.2
    assert torch.equal(mask_tokens(tokens, 0.0), tokens)


def test_the_network_hides_queries_in_training_only():
    from mesh_graphormer_hand import assembly
    from mesh_graphormer_hand.config import Experiment, parse

    small = {
        "name": "mesh_graphormer", "backbone": {"name": "hrnet_w18_small"},
        "head_planes": [2, 2, 2, 4], "feature": 8, "coarse": 98,
        "widths": [8, 8], "outputs": [8], "graph": [False, True], "layers": 1, "heads": 2, "dropout": 0.0,
        "grid_tokens": False, "mask_ratio": 0.9,
    }  # fmt: skip
    experiment = parse(Experiment, {"model": small, "data": {"image_size": 64}, "hand": "open"})
    model = assembly.build_model(experiment, assembly.load_hand(experiment))
    features = torch.randn(2, 16, 2, 2), torch.randn(2, 8)
    hidden = lambda: (model.tokenize(*features) == MASKED_VALUE).all(-1).sum()  # noqa: E731
    assert hidden() > 0
    model.eval()
    assert hidden() == 0
