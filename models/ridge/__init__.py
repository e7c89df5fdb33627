"""Ridge regression, exact and fast: many penalties and many targets for the price of few."""
