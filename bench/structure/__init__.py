"""How the package is built, in figures: `python -m bench.structure [CHECKOUT ...]`.

`sources` counts in the sources, `words` are those that no name has, `paths` runs a gateway and
counts what an event crosses, with `recorder` in its processes. The rules of `tests/style` bound
what is counted here; beside them a change can be seen, or a checkout of another age compared.
"""
