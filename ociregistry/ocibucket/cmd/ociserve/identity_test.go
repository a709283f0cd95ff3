package main

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/internal/servers"
)

// TestMain lets a test run the program in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("OCISERVE_TEST") != "" {
		main()
	}
	os.Exit(m.Run())
}

// The program of a machine in Azure has no key, but asks the machine for tokens.
func TestProgram_FindsTheIdentityOfTheMachine(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("a certificate is taken from SSL_CERT_FILE on Linux only")
	}
	azurite := servers.NewAzureTLS(t, "images")
	run := func(env map[string]string, args ...string) (string, error) {
		cmd := exec.Command(os.Args[0], append(args, "-bucket", "azure://images/team?endpoint="+azurite.URL)...)
		cmd.Env = []string{"OCISERVE_TEST=1", "AZURE_STORAGE_ACCOUNT=" + servers.AzureAccount, "SSL_CERT_FILE=" + azurite.CertFile}
		for name, value := range env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(servers.AzureIdentity(t), "gc", "-dry-run")
	qt.Check(t, qt.IsNil(err), qt.Commentf(out))
	qt.Check(t, qt.StringContains(out, "Would remove nothing (0 B) from 0 repositories."))
	out, err = run(map[string]string{"AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}, "gc", "-dry-run")
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.StringContains(out, "access denied: no token: "))
	// The name of the account is in the path only.
	out, err = run(servers.AzureIdentity(t), "-addr", "127.0.0.1:0", "-redirect", "10m")
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.StringContains(out, `-redirect: Presign "nothing": unsupported`))
}
