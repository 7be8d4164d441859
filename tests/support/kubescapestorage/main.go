// Kubescape's storage, the API server that holds its custom resources, without the Kubernetes in
// front of it that asks who is there: for tests of what we write to it, on a loopback port.
//
//	storage FOLDER PORT
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/kubescape/storage/pkg/cmd/server"
	"github.com/kubescape/storage/pkg/config"
	"github.com/kubescape/storage/pkg/registry/file"
	"github.com/spf13/afero"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

var kubeconfig = []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "none",
"clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
"contexts": [{"name": "none", "context": {"cluster": "none"}}]}`)

func main() {
	folder, port := os.Args[1], os.Args[2]
	if err := run(genericapiserver.SetupSignalContext(), folder, port); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, folder, port string) error {
	// Its root is a constant, /data: below a folder of ours it is.
	files := afero.NewBasePathFs(afero.NewOsFs(), folder)
	pool := file.NewPool(filepath.Join(folder, "metadata.sq3"), 0)
	settings := config.Config{DefaultNamespace: "kubescape", DisableVirtualCRDs: true}
	options := server.NewWardleServerOptions(
		os.Stdout, os.Stderr, files, pool, settings, file.NewWatchDispatcher())
	recommended := options.RecommendedOptions
	recommended.Authentication = nil
	// It wants to know a Kubernetes, and asks nothing of it.
	recommended.CoreAPI.CoreAPIKubeconfigPath = filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(recommended.CoreAPI.CoreAPIKubeconfigPath, kubeconfig, 0o600); err != nil {
		return err
	}
	recommended.Features.EnablePriorityAndFairness = false
	command := server.NewCommandStartWardleServer(ctx, options, false)
	command.SetArgs([]string{
		"--bind-address=127.0.0.1", "--secure-port=" + port,
		"--cert-dir=" + filepath.Join(folder, "certificates"),
	})
	return command.ExecuteContext(ctx)
}
