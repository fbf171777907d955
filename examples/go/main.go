package main

import (
	"fmt"
	"os/user"
)

func main() {
	current, err := user.Current()
	if err != nil {
		panic(err)
	}
	fmt.Println("it works for", current.Username)
}
