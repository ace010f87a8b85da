"""From a request to rows: noise, the plan of a batch, experts on the device, the engine that runs them."""
