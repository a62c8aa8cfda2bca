"""`python -m bnn_tf` is the command `bnn-tf`."""

from bnn_tf.cli import main

if __name__ == "__main__":
    main()
