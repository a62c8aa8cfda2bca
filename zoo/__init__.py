"""Binary networks in Larq Zoo's style, and the recipes that train them."""
