"""Host side of fluxjax: where the bytes of videos come from."""
