package server

import (
	"slices"

	"google.golang.org/grpc/codes"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

const orgURI = "/organisation/{org}"

// samples are the calls of the matrix, by method. They fit a newWorld.
var samples = map[string][]sample{
	"PermissionsService/CreatePermission": {
		{name: "new", request: &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "new"}, needs: on("permission.create " + orgURI)},
		{name: "again", request: &permissionsv1.CreatePermissionRequest{ProjectName: project, Name: "read", Description: "anew"},
			needs: on("permission.create " + orgURI)},
	},
	"PermissionsService/GetPermission": {
		{name: "by name", request: &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "read"}, needs: on("permission.get " + orgURI + "/permission/read")},
		{name: "by id", request: &permissionsv1.GetPermissionRequest{ProjectName: project, Name: "{read}"},
			needs: on("permission.get " + orgURI + "/permission/read as " + orgURI + "/permission/{read}")},
	},
	"PermissionsService/UpdatePermission": {
		{name: "describe", request: &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", Description: "anew"},
			needs: on("permission.update " + orgURI + "/permission/read")},
		{name: "same name", request: &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "{read}", NewName: "read"},
			needs: on("permission.update " + orgURI + "/permission/read as " + orgURI + "/permission/{read}")},
		{name: "rename", request: &permissionsv1.UpdatePermissionRequest{ProjectName: project, Name: "read", NewName: "look"},
			needs: on("permission.update "+orgURI+"/permission/read", "permission.update "+orgURI+"/permission/look")},
	},
	"PermissionsService/DeletePermission": {
		{name: "by name", request: &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "read"},
			needs: on("permission.delete " + orgURI + "/permission/read")},
		{name: "absent", request: &permissionsv1.DeletePermissionRequest{ProjectName: project, Name: "nope"},
			needs: on("permission.delete " + orgURI + "/permission/nope")},
	},
	"PermissionsService/ListPermissions": {
		{name: "all", request: &permissionsv1.ListPermissionsRequest{ProjectName: project}, needs: on("permission.list " + orgURI)},
	},
	"PermissionsService/CreateRole": {
		{name: "empty", request: &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new"}, needs: on("role.create " + orgURI)},
		{name: "new", request: &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "new", Permissions: []string{"{read}", "write"}},
			needs: on("role.create "+orgURI, "permission.get "+orgURI+"/permission/read as "+orgURI+"/permission/{read}",
				"permission.get "+orgURI+"/permission/write")},
		{name: "over another", request: &permissionsv1.CreateRoleRequest{ProjectName: project, Name: "viewer", Permissions: []string{"write"}},
			needs: on("role.create "+orgURI, "permission.get "+orgURI+"/permission/write",
				"role.update "+orgURI+"/role/{viewer} as "+orgURI+"/role/viewer")},
	},
	"PermissionsService/GetRole": {
		{name: "by id", request: &permissionsv1.GetRoleRequest{ProjectName: project, Id: "{viewer}"}, needs: on("role.get " + orgURI + "/role/{viewer}")},
		{name: "by name", request: &permissionsv1.GetRoleRequest{ProjectName: project, Id: "viewer"},
			needs: on("role.get " + orgURI + "/role/{viewer} as " + orgURI + "/role/viewer")},
	},
	"PermissionsService/UpdateRole": {
		{name: "describe", request: &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "{viewer}", Description: "anew"},
			needs: on("role.update " + orgURI + "/role/{viewer}")},
		{name: "fill", request: &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "viewer", Name: "viewer", Permissions: []string{"write"}},
			needs: on("role.update " + orgURI + "/role/{viewer} as " + orgURI + "/role/viewer")},
		{name: "rename", request: &permissionsv1.UpdateRoleRequest{ProjectName: project, Id: "{viewer}", Name: "a/b"},
			needs: on("role.update "+orgURI+"/role/{viewer}", "role.update "+orgURI+"/role/a%2Fb")},
	},
	"PermissionsService/DeleteRole": {
		{name: "by id", request: &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "{viewer}"}, needs: on("role.delete " + orgURI + "/role/{viewer}")},
		{name: "by name", request: &permissionsv1.DeleteRoleRequest{ProjectName: project, Id: "viewer"},
			needs: on("role.delete " + orgURI + "/role/{viewer} as " + orgURI + "/role/viewer")},
	},
	"PermissionsService/ListRoles": {
		{name: "all", request: &permissionsv1.ListRolesRequest{ProjectName: project}, needs: on("role.list " + orgURI)},
	},
	"PermissionsService/GrantUserPermissionsAndRolesOnResource": {
		{name: "both", request: grantRequest(project, "user:default/guest", "/b", []string{"read", "write"}, "viewer"),
			needs: on("permission.get "+orgURI+"/permission/read", "permission.get "+orgURI+"/permission/write",
				"role.get "+orgURI+"/role/{viewer} as "+orgURI+"/role/viewer",
				"principal.assignment.create "+orgURI+"/principal/user:default%2Fguest")},
		{name: "to a key", request: grantRequest(project, "key:{ci}", "/b/*", []string{"read"}),
			needs: on("permission.get "+orgURI+"/permission/read", "principal.assignment.create "+orgURI+"/principal/key:{ci}")},
		{name: "in remit", request: grantRequest("remit", "key:{ci}", orgURI+"/role", []string{"role.list"}), only: "remit",
			needs: on("permission.get "+orgURI+"/permission/role.list", "principal.assignment.create "+orgURI+"/principal/key:{ci}",
				"role.list "+orgURI+"/role")},
	},
	"PermissionsService/RevokeUserPermissionsAndRolesOnResource": {
		{name: "exact", request: revokeRequest(project, "anna", "/a", []string{"read"}, "viewer"),
			needs: on("principal.assignment.delete " + orgURI + "/project/production/resource/a")},
		{name: "wildcard", request: revokeRequest(project, "anna", "/a/*/b", []string{"read"}),
			needs: on("principal.assignment.delete " + orgURI + "/project/production/resource/a/*/b")},
		{name: "root", request: revokeRequest(project, "anna", "/", []string{"read"}),
			needs: on("principal.assignment.delete " + orgURI + "/project/production/resource")},
		{name: "in remit", request: revokeRequest("remit", "key:{ci}", orgURI+"/role", []string{"role.list"}), only: "remit",
			elsewhere: code(codes.OK), // in his own project of that name, where nothing is granted
			needs:     on("principal.assignment.delete " + orgURI + "/project/remit/resource" + orgURI + "/role")},
	},
	"PermissionsService/GetUserPermissionsAndRolesOnResource": {
		{name: "exact", request: &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: "/a"},
			needs: on("principal.assignment.get " + orgURI + "/project/production/resource/a")},
		{name: "wildcard", request: &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{ProjectName: project, UserId: "anna", ResourceUri: "/*"},
			needs: on("principal.assignment.get " + orgURI + "/project/production/resource/*")},
		{name: "inherited", request: &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
			ProjectName: project, UserId: "anna", ResourceUri: "/a/b", IncludeInherited: true},
			needs: on("principal.assignment.get " + orgURI + "/project/production/resource/a/b")},
	},
	"PermissionsService/ListPrincipals": {
		{name: "all", request: &permissionsv1.ListPrincipalsRequest{ProjectName: project}, needs: on("principal.list " + orgURI)},
	},
	"PermissionsService/GetAllAssignmentsForPrincipal": {
		{name: "of a project", request: &permissionsv1.GetAllAssignmentsForPrincipalRequest{ProjectName: project, PrincipalId: "anna"},
			needs: on("principal.assignment.list " + orgURI + "/principal/anna")},
		{name: "of all", request: &permissionsv1.GetAllAssignmentsForPrincipalRequest{PrincipalId: "anna"}, elsewhere: code(codes.OK),
			needs: on("principal.assignment.list " + orgURI + "/principal/anna")},
	},
	"PermissionsService/Check": {
		{name: "one", request: &permissionsv1.CheckPermissionRequest{
			ProjectName: project, PrincipalId: "anna", ResourceUris: []string{"/a"}, Permissions: []string{"read"}}},
	},

	"OrganisationService/CreateOrganisation": {
		{name: "new", request: &organisationv1.CreateOrganisationRequest{Name: "new"}},
	},
	"OrganisationService/GetOrganisation": {
		{name: "own", request: &organisationv1.GetOrganisationRequest{Id: "{org}"}, needs: on("organisation.get " + orgURI)},
	},
	"OrganisationService/ListOrganisations": {
		{name: "all", request: &organisationv1.ListOrganisationsRequest{}},
	},
	"OrganisationService/UpdateOrganisation": {
		{name: "rename", request: &organisationv1.UpdateOrganisationRequest{Id: "{org}", Name: "new"}, needs: on("organisation.update " + orgURI)},
	},
	"OrganisationService/DeleteOrganisation": {
		{name: "another", request: &organisationv1.DeleteOrganisationRequest{Id: "{other}"}},
	},
	"OrganisationService/CreateProject": {
		{name: "new", request: &organisationv1.CreateProjectRequest{OrganisationId: "{org}", Name: "new"}, needs: on("project.create " + orgURI)},
	},
	"OrganisationService/GetProject": {
		{name: "one", request: &organisationv1.GetProjectRequest{OrganisationId: "{org}", ProjectName: project},
			needs: on("project.get " + orgURI + "/project/production")},
	},
	"OrganisationService/GetProjectsForOrganisation": {
		{name: "all", request: &organisationv1.GetProjectsForOrganisationRequest{OrganisationId: "{org}"}, needs: on("project.get " + orgURI)},
	},
	"OrganisationService/DeleteProject": {
		{name: "one", request: &organisationv1.DeleteProjectRequest{OrganisationId: "{org}", ProjectName: project},
			needs: on("project.delete " + orgURI + "/project/production")},
	},
	"OrganisationService/CreateAPIKey": {
		{name: "plain", request: &organisationv1.CreateAPIKeyRequest{OrganisationId: "{org}", ProjectName: project, Name: "new"},
			needs: on("apiKeys.create " + orgURI + "/project/production")},
		{name: "with a role", request: &organisationv1.CreateAPIKeyRequest{OrganisationId: "{org}", ProjectName: project, Name: "new", Role: "viewer"},
			needs: slices.Concat(on("apiKeys.create "+orgURI+"/project/production"), onEach(orgURI,
				"permission.get", "permission.list", "role.get", "role.list", "principal.list", "principal.assignment.get",
				"principal.assignment.list", "organisation.get", "project.get", "apiKeys.list", "usage.get"))},
		{name: "operator", request: &organisationv1.CreateAPIKeyRequest{OrganisationId: "{org}", ProjectName: "remit", Name: "new", Operator: true},
			only: "operator", needs: on("apiKeys.create " + orgURI + "/project/remit")},
	},
	"OrganisationService/ListAPIKeys": {
		{name: "all", request: &organisationv1.ListAPIKeysRequest{OrganisationId: "{org}", ProjectName: project},
			needs: on("apiKeys.list " + orgURI + "/project/production")},
	},
	"OrganisationService/InvalidateAPIKey": {
		{name: "one", request: invalidateRequest("{org}", project, "{ci}"), needs: on("apiKeys.invalidate " + orgURI + "/project/production")},
	},
	"OrganisationService/WhoAmI": {
		{name: "self", request: &organisationv1.WhoAmIRequest{}},
	},
}
