package ocifs

import "os"

// cannotLink reports true: there are no further names for a file here.
func cannotLink(err error) bool { return err != nil }

// forSync is how a file is opened that is to be read and synced.
const forSync = os.O_RDONLY
