"""The floor of the house: errors, configuration, manifests, events, reports. Free of torch."""
