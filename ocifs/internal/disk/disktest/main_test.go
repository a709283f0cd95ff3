package disktest

import (
	"testing"

	"github.com/seed-40b21970/oci/internal/scratch"
)

func TestMain(m *testing.M) { scratch.Main(m) }
