"""Export: the best trained model of a sweep as files that other programs can load, checked before they are used."""
