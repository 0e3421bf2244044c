"""Pure builders: (owner, spec, settings) in, manifests out. No client, no clock."""
