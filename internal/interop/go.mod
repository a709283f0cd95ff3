module github.com/seed-40b21970/oci/internal/interop

go 1.25.0
