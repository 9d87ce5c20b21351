"""A hand in 3D from one photo: 778 mesh vertices, 21 joints and the camera.

    from mesh_graphormer_hand import HandPredictor

    hands = HandPredictor.from_pretrained().predict("photo.jpg")       # a list of HandResult

`import mesh_graphormer_hand` loads nothing more; the two classes load with their first use.
"""

EXPORTS = {"HandPredictor": "inference.predictor", "HandResult": "inference.result"}  # name -> module that defines it


def __getattr__(name: str) -> type:
    if name in EXPORTS:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *EXPORTS])
