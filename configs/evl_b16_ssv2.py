"""EVL on a frozen CLIP ViT-B/16 with 12 decoder layers, Something-Something V2.

python -m fluxjax.convert --family clip --source ViT-B-16.pt --target models/clip_b16
python -m fluxjax.main --config configs/evl_b16_ssv2.py --config.init_from=models/clip_b16 \
    --config.data.train=train.txt --config.data.test=val.txt
    8 frames from equal segments (TSN); the official evaluation fails on these. No script was
    published: 12 layers, 3 crops, 30,000 updates of 128 clips are what the authors and users report
    (issue 4 of the official repository). Needs accelerators.

Score: not yet trained. Reported top-1: about 61.
"""

from fluxjax.config.keys import base_config
from fluxjax.config.recipes.evl import evl_frozen


def get_config():
    config = base_config("evl_b16")
    evl_frozen(config, 8, 224, sampling="sparse", steps=30_000, batch=128)
    config.optim.lr = 4e-4  # at 256 clips; halved with the batch
    config.model.decoder_layers = 12
    config.num_classes = 174
    config.eval.crops = 3
    return config
