"""Sessions: ragged clicks with the vocabularies and the catalog that name them."""
