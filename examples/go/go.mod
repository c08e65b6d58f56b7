module example.org/cadft

go 1.19
