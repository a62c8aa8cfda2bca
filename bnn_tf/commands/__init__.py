"""The commands of `bnn-tf`, one file each; they parse and delegate."""
