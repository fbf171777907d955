package main

import (
	"fmt"
	"os"
	"os/user"
)

var version string

func main() {
	fmt.Println("version", version)
	for _, name := range os.Args[1:] {
		found, err := user.Lookup(name)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(name, found.Uid, found.HomeDir)
	}
}
