complete -c connector -w ilp-connector
