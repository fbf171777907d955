// Builds with inputs, which buildctl has no words for: an LLB definition takes the place of a directory or an image.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"
)

// pairs is a flag that is given several times, as KEY=VALUE.
type pairs map[string]string

func (p pairs) String() string { return "" }

func (p pairs) Set(text string) error {
	key, value, found := strings.Cut(text, "=")
	if !found {
		return fmt.Errorf("not KEY=VALUE: %s", text)
	}
	p[key] = value
	return nil
}

var (
	address  = flag.String("addr", "", "where buildkitd listens")
	output   = flag.String("output", "", "the OCI archive to write; none by default")
	frontend = flag.String("frontend", "", "call the frontend that this image is, as another frontend does; else it is\nthe one of the build file, which the client asks for")
	options  = pairs{}
	locals   = pairs{}
	inputs   = pairs{}
)

func main() {
	flag.Var(options, "opt", "KEY=VALUE of an option")
	flag.Var(locals, "local", "NAME=DIRECTORY that definitions may refer to")
	flag.Var(inputs, "input", "NAME=files:DIRECTORY: its files, each made by the definition\n"+
		"NAME=image:REFERENCE\nNAME=local:NAME\n"+
		"NAME=target:NAME: what -frontend builds of a directory, as one target of `docker buildx bake` refers to another")
	flag.Parse()
	if err := run(context.Background()); err != nil {
		for _, source := range errdefs.Sources(err) {
			source.Print(os.Stderr)
		}
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	daemon, err := client.New(ctx, *address)
	if err != nil {
		return err
	}
	solve := client.SolveOpt{FrontendAttrs: options, LocalMounts: map[string]fsutil.FS{}}
	for name, directory := range locals {
		if solve.LocalMounts[name], err = fsutil.NewFS(directory); err != nil {
			return err
		}
	}
	if *output != "" {
		create := func(map[string]string) (io.WriteCloser, error) { return os.Create(*output) }
		solve.Exports = []client.ExportEntry{{
			Type: client.ExporterOCI, Attrs: map[string]string{"name": "built"}, Output: create,
		}}
	}
	display, err := progressui.NewDisplay(os.Stderr, progressui.PlainMode)
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	shown := make(chan struct{})
	go func() {
		display.UpdateFrom(ctx, status)
		close(shown)
	}()
	if *frontend != "" {
		_, err = daemon.Build(ctx, solve, "", call, status)
	} else {
		solve.Frontend = "dockerfile.v0"
		solve.FrontendInputs = map[string]llb.State{}
		for name, value := range inputs {
			if solve.FrontendInputs[name], err = state(value); err != nil {
				return err
			}
		}
		_, err = daemon.Solve(ctx, nil, solve, status)
	}
	<-shown
	return err
}

// state returns the definition that `value` of an input stands for.
func state(value string) (llb.State, error) {
	kind, rest, _ := strings.Cut(value, ":")
	switch kind {
	case "image":
		return llb.Image(rest), nil
	case "local":
		return llb.Local(rest), nil
	case "files":
		entries, err := os.ReadDir(rest)
		if err != nil {
			return llb.State{}, err
		}
		made := llb.Scratch()
		for _, entry := range entries {
			data, err := os.ReadFile(filepath.Join(rest, entry.Name()))
			if err != nil {
				return llb.State{}, err
			}
			made = made.File(llb.Mkfile("/"+entry.Name(), 0o644, data))
		}
		return made, nil
	}
	return llb.State{}, fmt.Errorf("no such kind of input: %s", value)
}

// call has the frontend build with the inputs, as another frontend does.
func call(ctx context.Context, daemon gateway.Client) (*gateway.Result, error) {
	request := gateway.SolveRequest{Frontend: "gateway.v0", FrontendOpt: maps.Clone(options)}
	request.FrontendOpt["source"] = *frontend
	states := map[string]llb.State{}
	for name, value := range inputs {
		var err error
		if target, found := strings.CutPrefix(value, "target:"); found {
			states[name], request.FrontendOpt["input-metadata:"+name], err = built(ctx, daemon, target)
		} else {
			states[name], err = state(value)
		}
		if err != nil {
			return nil, err
		}
	}
	request.FrontendInputs = map[string]*pb.Definition{}
	for name, state := range states {
		definition, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		request.FrontendInputs[name] = definition.ToPB()
	}
	return daemon.Solve(ctx, request)
}

// built returns what the frontend builds of the directory that the client calls `local`, and what a build that
// starts from there has to know.
func built(ctx context.Context, daemon gateway.Client, local string) (llb.State, string, error) {
	request := gateway.SolveRequest{Frontend: "gateway.v0", FrontendOpt: map[string]string{
		"source": *frontend, "contextkey": local, "dockerfilekey": local,
	}}
	result, err := daemon.Solve(ctx, request)
	if err != nil {
		return llb.State{}, "", err
	}
	reference, err := result.SingleRef()
	if err != nil {
		return llb.State{}, "", err
	}
	metadata, err := json.Marshal(map[string][]byte{
		exptypes.ExporterImageConfigKey: result.Metadata[exptypes.ExporterImageConfigKey],
	})
	if err != nil {
		return llb.State{}, "", err
	}
	state, err := reference.ToState()
	return state, string(metadata), err
}
