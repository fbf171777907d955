module example.test/whoami

go 1.19
