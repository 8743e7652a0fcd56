"""Serving: the microservice that scores events and logs what it said."""
