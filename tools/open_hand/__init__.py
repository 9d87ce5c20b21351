"""Builds the open hand (mano_assets/open_hand.npz) from nothing but formulas: `python -m tools.open_hand`.

From the bottom up: `anatomy` (bones) -> `primitives`, `surface` (a signed distance field of the skin), `detail` and
`colours` (relief and paint of the render mesh) -> `editmesh`, `remesh` (triangles of a wanted size on that surface) ->
`meshes` (the 778-vertex template and the render mesh) -> `weights`, `correctives`, `shapes`, `poses` (the rig) ->
`build` (all of it, in MANO's arrays) -> `checks`, `pictures`.

Lengths are millimetres and vectors stand in the hand frame of `anatomy` everywhere but in the file itself.
"""
