"""The ledger: model versions, deployments and decisions; append-only and hash-chained."""
