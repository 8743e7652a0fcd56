"""Strategies for several processes that train one model, through torch's own means, and how they are started."""
