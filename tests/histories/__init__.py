"""What clients were told, what replicas stored, and whether the two keep the promises."""
