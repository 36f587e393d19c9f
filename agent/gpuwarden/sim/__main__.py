"""``python -m gpuwarden.sim``: the ``simulate`` verbs by themselves."""

from gpuwarden.sim.commands import simulate

if __name__ == "__main__":
    simulate(prog_name="gpuwarden simulate")
