"""Users and groups in the look of the other pages."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from fleet.admin.page import PageAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class PersonAdmin(UserAdmin, PageAdmin):  # type: ignore[type-arg,misc]  # as declared for each
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class PermissionGroupAdmin(GroupAdmin, PageAdmin):  # type: ignore[misc]  # as declared for each
    pass
