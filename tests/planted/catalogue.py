"""All planted bugs by name, in the order of the modules that hold them."""

from planted import appends, clients, consensus, durability, indexes, reads
from planted.plant import Plant

PLANTS: dict[str, Plant] = {
    plant.name: plant for module in (durability, consensus, reads, appends, indexes, clients) for plant in module.PLANTS
}
