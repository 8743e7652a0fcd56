"""Everything on one machine: `evergreen up` starts the parts and keeps them running; the demo drives them."""
