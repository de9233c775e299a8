"""The tests of balancer; a package, so that no installed package named `tests` comes before it."""
