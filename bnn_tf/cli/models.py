"""`bnn-tf models`."""

import inspect

from bnn_tf.cli import options


@options.command()
@options.json_option
def models(as_json: bool) -> None:
    """List the architectures."""
    import zoo

    listed = []
    for name in zoo.list_models():
        builder = zoo.get_model(name)
        parameters = inspect.signature(builder).parameters
        size = parameters["input_shape"].default
        listed.append(
            {
                "model": name,
                "function": f"zoo.{builder.__name__}",
                "input_shape": size,
                "num_classes": parameters["num_classes"].default,
                "summary": inspect.getdoc(builder).split("\n")[0],  # type: ignore[union-attr]
            }
        )
    if as_json:
        options.emit(listed, True, "")
    else:
        options.print_table(
            ["model", "function", "about"], [[m["model"], m["function"], m["summary"]] for m in listed]
        )
