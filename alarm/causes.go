package alarm

import "slices"

// causes are all that is known to go wrong, from what is behind everything to what is left when nothing else is seen. The order says nothing
// else: what follows from what is in Rule.Covers.
func causes() []Rule {
	return slices.Concat(kafkaCauses(), diskCauses(), ownCauses(), insertCauses(), storageCauses(), clusterCauses(), loadCauses())
}
