"""What a run was asked for, as YAML has it."""
