"""What a guest's descriptor can be: one file a kind, all with the methods of `base.Descriptor`."""
