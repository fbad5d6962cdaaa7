"""All planted bugs by name, in the order of the modules that hold them."""

from planted import appends, clients, consensus, consumers, durability, groups, indexes, reads
from planted.plant import Plant

MODULES = (durability, consensus, reads, appends, indexes, clients, consumers, groups)
PLANTS: dict[str, Plant] = {plant.name: plant for module in MODULES for plant in module.PLANTS}
